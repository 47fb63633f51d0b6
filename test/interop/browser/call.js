// A call between two peer connections of this page, over relay candidates only:
// a data channel with messages both ways and video one way.  Whatever goes wrong
// is thrown as an Error whose message is a sentence; what went right is returned
// as figures, which relay_call.mjs judges.

const MESSAGES = 20;

// A promise which the listener fulfils: listen((resolve, reject) => ...), with
// the peer's failures as the other way out.
function until(peers, listen) {
  return new Promise((resolve, reject) => {
    for (const peer of peers) {
      peer.onfailure = reject;
      peer.connection.onconnectionstatechange?.();
    }
    listen(resolve, reject);
  });
}

function createPeer(name, iceServer) {
  const connection = new RTCPeerConnection({
    iceServers: [iceServer],
    iceTransportPolicy: 'relay',
    bundlePolicy: 'max-bundle',
  });
  const peer = { name, connection, errors: [], onfailure: null };
  connection.onicecandidateerror = ({ errorCode, errorText }) =>
    peer.errors.push(`${errorCode} ${errorText}`.trim());
  connection.onconnectionstatechange = () => {
    if (connection.connectionState === 'failed') {
      peer.onfailure?.(new Error(`the connection of the ${name} failed`));
    }
  };
  return peer;
}

// Waits for the end of gathering, so that the descriptions carry every candidate
// and neither side ever meets the other as peer reflexive.
async function gathered(peer) {
  const { connection } = peer;
  await until([peer], (resolve) => {
    const check = () => connection.iceGatheringState === 'complete' && resolve();
    connection.onicegatheringstatechange = check;
    check();
  });
  const description = connection.localDescription;
  const candidates = description.sdp.split('\r\n').filter((line) => line.startsWith('a=candidate:'));
  if (candidates.length === 0) {
    const reasons = [...new Set(peer.errors)].join(', ') || 'no reason given';
    throw new Error(`the ${peer.name} gathered no relay candidate (${reasons})`);
  }
  const other = candidates.find((line) => !/ typ relay( |$)/.test(line));
  if (other) throw new Error(`the ${peer.name} gathered a candidate which is no relay: ${other}`);
  return description;
}

async function negotiate(caller, callee) {
  await caller.connection.setLocalDescription();
  await callee.connection.setRemoteDescription(await gathered(caller));
  await callee.connection.setLocalDescription();
  await caller.connection.setRemoteDescription(await gathered(callee));
}

// Text of many sizes up to some 12 KB, so that SCTP has to fragment as well.
function someMessages(name) {
  return Array.from({ length: MESSAGES }, (_, i) => `${name} ${i} ${'x'.repeat(i * i * 32)}`);
}

function opened(peers, channel) {
  return until(peers, (resolve) => {
    if (channel.readyState === 'open') resolve();
    else channel.onopen = resolve;
  });
}

function delivered(peers, from, to, messages, direction) {
  return until(peers, (resolve, reject) => {
    let count = 0;
    to.onmessage = ({ data }) => {
      if (data !== messages[count]) reject(new Error(`message ${count} arrived changed ${direction}`));
      count += 1;
      if (count === messages.length) resolve(count);
    };
    messages.forEach((message) => from.send(message));
  });
}

async function statsOf(connection, type) {
  return [...(await connection.getStats()).values()].filter((entry) => entry.type === type);
}

async function framesDecoded(connection) {
  const video = (await statsOf(connection, 'inbound-rtp')).find((entry) => entry.kind === 'video');
  return video?.framesDecoded ?? 0;
}

// Every frame shown is an occasion to look at the counter.
function decoded(peers, receiver, wanted) {
  const video = document.getElementById('received');
  return until(peers, (resolve, reject) => {
    const look = async () => {
      try {
        const frames = await framesDecoded(receiver.connection);
        if (frames > wanted) resolve(frames);
        else video.requestVideoFrameCallback(look);
      } catch (error) {
        reject(error);
      }
    };
    video.requestVideoFrameCallback(look);
  });
}

async function selectedPair({ name, connection }) {
  const report = await connection.getStats();
  const transports = await statsOf(connection, 'transport');
  if (transports.length !== 1) throw new Error(`the ${name} has ${transports.length} transports, not one`);
  const pair = report.get(transports[0].selectedCandidatePairId);
  if (!pair) throw new Error(`the ${name} has selected no candidate pair`);
  const side = (id) => {
    const { candidateType, address, port, relayProtocol, url } = report.get(id);
    return { candidateType, address, port, relayProtocol, url };
  };
  return {
    name,
    state: pair.state,
    nominated: pair.nominated,
    bytesSent: pair.bytesSent,
    bytesReceived: pair.bytesReceived,
    local: side(pair.localCandidateId),
    remote: side(pair.remoteCandidateId),
  };
}

// A pair that carries media may be checked again, and is in progress then. The next frame is the
// occasion to look again.
async function settledPair(peer) {
  const video = document.getElementById('received');
  for (;;) {
    const pair = await selectedPair(peer);
    if (pair.state !== 'in-progress') return pair;
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  }
}

// Tells how far the call has come, for the message when time runs out.
globalThis.relayCallStage = 'starting';
const stage = (text) => { globalThis.relayCallStage = text; };

globalThis.relayCall = async (iceServer, wantedFrames) => {
  const caller = createPeer('caller', iceServer);
  const callee = createPeer('callee', iceServer);
  const peers = [caller, callee];

  stage('opening the fake camera');
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  stream.getTracks().forEach((track) => caller.connection.addTrack(track, stream));
  callee.connection.ontrack = ({ streams }) => {
    document.getElementById('received').srcObject = streams[0];
  };
  const near = caller.connection.createDataChannel('messages', { negotiated: true, id: 1 });
  const far = callee.connection.createDataChannel('messages', { negotiated: true, id: 1 });

  stage('gathering candidates');
  await negotiate(caller, callee);

  stage('waiting for the data channel to open');
  await opened(peers, near);
  await opened(peers, far);

  stage('waiting for messages');
  const toCallee = await delivered(peers, near, far, someMessages('hello'), 'at the callee');
  const toCaller = await delivered(peers, far, near, someMessages('welcome'), 'at the caller');

  stage('waiting for video');
  const frames = await decoded(peers, callee, wantedFrames);

  stage('waiting for the checks of the selected pairs');
  return { toCallee, toCaller, frames, pairs: await Promise.all(peers.map(settledPair)) };
};
