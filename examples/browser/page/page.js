// The page: a form, contacts, a call. It shows what xmpp.js and call.js know and passes clicks on.
import { Phone } from './call.js';
import { Session } from './xmpp.js';

const $ = (id) => document.getElementById(id);

const STATES = {
  calling: 'Calling', ringing: 'Call from', connecting: 'Connecting to', connected: 'In a call with',
};

let session = null;
let phone = null;
let shown = null;

const nameOf = (jid) => session.contacts.get(jid.split('/')[0])?.name ?? jid;

function say(problem) {
  $('problem').textContent = problem;
}

// The links that start.mjs prints fill the form. Where passwords matter they have no place in links.
function fillForm() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of given) if ($('login').elements[name]) $('login').elements[name].value = value;
}

async function login(event) {
  event.preventDefault();
  const { url, jid, password } = Object.fromEntries(new FormData($('login')));
  say('');
  try {
    session = await Session.login(url, jid, password);
  } catch (error) {
    return say(error.message);
  }
  phone = new Phone(session, showCall);
  session.onContacts = showContacts;
  session.onGone = (jid) => phone.gone(jid);
  session.onEnd = loggedOut;
  $('me').textContent = session.jid;
  $('login').hidden = true;
  document.querySelector('main').hidden = false;
  showContacts();
}

function loggedOut() {
  phone.call?.end();
  $('login').hidden = false;
  document.querySelector('main').hidden = true;
  $('me').textContent = '';
  say('The connection to the server has ended.');
}

function showContacts() {
  $('contacts').replaceChildren(...[...session.contacts.values()].map(contactRow));
}

function contactRow({ jid, name, places }) {
  const row = document.createElement('li');
  const label = Object.assign(document.createElement('span'), { textContent: name });
  const state = Object.assign(document.createElement('span'), {
    className: 'soft', textContent: places.size ? 'is there' : 'is not there',
  });
  const button = Object.assign(document.createElement('button'), {
    textContent: 'Call',
    disabled: places.size === 0 || phone.call !== null,
    onclick: () => phone.place([...places].at(-1)),
  });
  row.dataset.jid = jid;
  row.append(label, state, button);
  return row;
}

function showCall(call) {
  shown = call;
  const ended = call.state === 'ended';
  $('call').hidden = ended;
  $('call').dataset.state = call.state;
  $('state').textContent = ended ? '' : `${STATES[call.state]} ${nameOf(call.peer)}`;
  $('answer').hidden = call.state !== 'ringing';
  $('end').textContent = call.state === 'ringing' ? 'Decline' : 'Hang up';
  $('ours').srcObject = ended ? null : call.ours;
  $('theirs').srcObject = ended ? null : call.theirs;
  $('figures').textContent = '';
  say(ended ? `The call with ${nameOf(call.peer)} is over: ${call.reason}.` : '');
  showContacts();
}

async function showFigures() {
  if (shown?.state !== 'connected') return;
  const figures = await shown.figures();
  if (!figures || shown.state !== 'connected') return;
  const { local, remote, frames } = figures;
  const place = ({ candidateType, address, port }) => `${address}:${port} (${candidateType})`;
  $('figures').textContent = `Our end: ${place(local)}\nTheir end: ${place(remote)}\n${frames} frames decoded`;
}

fillForm();
$('login').onsubmit = login;
$('answer').onclick = () => shown.answer();
$('end').onclick = () => shown.end();
setInterval(showFigures, 1000);
