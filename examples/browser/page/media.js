// What the other one gets to see: the camera and microphone, or, on a machine that has none or
// whose camera is taken, a test picture with a clock.

export async function ourMedia() {
  try {
    return await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  } catch (error) {
    if (error.name === 'NotFoundError' || error.name === 'NotReadableError') return testPicture();
    throw new Error(`the browser gives no camera: ${error.message}`);
  }
}

function testPicture() {
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 });
  const context = canvas.getContext('2d');
  const draw = () => {
    const now = new Date();
    context.fillStyle = `hsl(${(now / 50) % 360} 45% 35%)`;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = '#fff';
    context.font = '64px monospace';
    context.fillText(now.toISOString().slice(11, 22), 96, 260);
  };
  draw();
  const stream = canvas.captureStream(15);
  const [track] = stream.getVideoTracks();
  const timer = setInterval(() => (track.readyState === 'live' ? draw() : clearInterval(timer)), 66);
  return stream;
}
