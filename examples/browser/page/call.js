// Calls: one at a time, between two of these pages, through the relay and nowhere else.
//
// Signalling is IQs of type set with an element of our own, from one full JID to another; the
// result says that it has arrived, an error why not:
//
//   <call xmlns='urn:example:call:0' id='…' action='offer | answer | candidate | end'>
//     <json xmlns='urn:xmpp:json:0'>…</json>      RTCSessionDescription, RTCIceCandidate (XEP-0335)
//   </call>
//
// It has the life cycle of Jingle (XEP-0166: session-initiate, -accept, transport-info, -terminate)
// without the translation of SDP, which fills a library of its own: clients of others do not
// understand it.
import { iceServers } from './services.js';
import { ourMedia } from './media.js';
import { bare, Refused, xml } from './xmpp.js';

const CALL = 'urn:example:call:0';
const JSON_CONTAINER = 'urn:xmpp:json:0';

export class Phone {
  call = null;
  #session;
  #onChange;

  // onChange(call) whenever there is something new to show of a call, until its state is 'ended'.
  constructor(session, onChange) {
    this.#session = session;
    this.#onChange = onChange;
    session.handle(CALL, (from, element) => this.#told(from, element));
  }

  // Calls somebody at the full JID.
  place(peer) {
    if (this.call) throw new Error('there is a call already');
    this.#begin(peer, crypto.randomUUID(), 'calling').place();
  }

  // Whoever was at this full JID is there no more.
  gone(jid) {
    if (this.call?.peer === jid) this.call.over('the other side has gone');
  }

  #begin(peer, id, state) {
    this.call = new Call(this.#session, peer, id, state, (call) => {
      if (call.state === 'ended' && this.call === call) this.call = null;
      this.#onChange(call);
    });
    return this.call;
  }

  // Only contacts can ring, and only who the call is with has a say in it.
  #told(from, element) {
    const [id, action] = ['id', 'action'].map((name) => element.getAttribute(name));
    const content = JSON.parse(element.firstElementChild?.textContent ?? 'null');
    if (action === 'offer') {
      if (!this.#session.contacts.has(bare(from))) throw new Refused('service-unavailable');
      if (this.call) throw new Refused('resource-constraint');
      this.#begin(from, id, 'ringing').ring(content);
    } else if (this.call?.peer === from && this.call.id === id) {
      this.call.told(action, content);
    } else {
      throw new Refused('item-not-found');
    }
  }
}

class Call {
  // calling (it rings there), ringing (here), connecting, connected, ended: then `reason` says why.
  state;
  reason = '';
  ours = null;
  theirs = null;
  #session;
  #onChange;
  #connection = null;
  #offer = null;
  #candidates = [];
  #said = Promise.resolve();

  constructor(session, peer, id, state, onChange) {
    Object.assign(this, { peer, id, state });
    this.#session = session;
    this.#onChange = onChange;
  }

  place() {
    this.#onChange(this);
    return this.#try(async () => {
      await this.#open();
      await this.#connection.setLocalDescription();
      await this.#say('offer', this.#connection.localDescription);
    });
  }

  ring(offer) {
    this.#offer = offer;
    this.#onChange(this);
  }

  answer() {
    return this.#try(async () => {
      this.#is('connecting');
      await this.#open();
      await this.#describe(this.#offer);
      await this.#connection.setLocalDescription();
      await this.#say('answer', this.#connection.localDescription);
    });
  }

  // Hangs up, or does not answer.
  end() {
    this.over('you hung up');
  }

  told(action, content) {
    if (action === 'answer' && this.state === 'calling') {
      this.#is('connecting');
      this.#try(() => this.#describe(content));
    } else if (action === 'candidate') {
      this.#try(() => this.#candidate(content));
    } else if (action === 'end') {
      this.over('the other side hung up');
    } else {
      throw new Refused('unexpected-request');
    }
  }

  // Closing the connection ends the allocation at the relay: the browser refreshes it with a
  // lifetime of 0 (RFC 8656 7).
  over(reason) {
    if (this.state === 'ended') return;
    this.#connection?.close();
    this.ours?.getTracks().forEach((track) => track.stop());
    // Whatever became of what was said before; they may have hung up themselves, or be gone.
    this.#said = this.#said.catch(() => {});
    this.#say('end', null).catch(() => {});
    this.reason = reason;
    this.#is('ended');
  }

  // What goes through the relay: { local, remote }, both { candidateType, address, port }, frames
  // decoded so far; null while no path has been found.
  async figures() {
    const stats = await this.#connection?.getStats() ?? new Map();
    const all = [...stats.values()];
    const transport = all.find(({ type }) => type === 'transport');
    const pair = stats.get(transport?.selectedCandidatePairId);
    if (!pair) return null;
    const video = all.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
    return {
      local: stats.get(pair.localCandidateId),
      remote: stats.get(pair.remoteCandidateId),
      frames: video?.framesDecoded ?? 0,
    };
  }

  async #open() {
    const servers = await iceServers(this.#session);
    const ours = await ourMedia();
    if (this.state === 'ended') {
      ours.getTracks().forEach((track) => track.stop());
      throw new Error('ended meanwhile');
    }
    this.ours = ours;
    // 'relay' shows that the relay works, and shows the other side no address but the relay's. Most
    // applications leave it out: ICE then relays only where nothing shorter is found. One bundle is
    // one allocation for sound and picture, instead of one each.
    const connection = new RTCPeerConnection({
      iceServers: servers, iceTransportPolicy: 'relay', bundlePolicy: 'max-bundle',
    });
    this.#connection = connection;
    connection.ontrack = ({ streams: [stream] }) => {
      this.theirs = stream;
      this.#onChange(this);
    };
    let found = 0;
    let refused = '';
    connection.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      found += 1;
      this.#try(() => this.#say('candidate', candidate));
    };
    connection.onicecandidateerror = ({ url, errorCode, errorText }) => {
      if (url.startsWith('turn')) refused = ` (${errorCode} ${errorText.replace(/\.$/, '')})`;
    };
    connection.onicegatheringstatechange = () => {
      const none = connection.iceGatheringState === 'complete' && found === 0;
      if (none) this.over(`the relay gives no address${refused}`);
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === 'connected') this.#is('connected');
      if (connection.connectionState === 'failed') this.over('no way through the relay was found');
    };
    ours.getTracks().forEach((track) => connection.addTrack(track, ours));
    this.#onChange(this);
  }

  // Candidates may arrive before there is a description to which they belong.
  async #describe(description) {
    await this.#connection.setRemoteDescription(description);
    const candidates = this.#candidates.splice(0);
    await Promise.all(candidates.map((candidate) => this.#connection.addIceCandidate(candidate)));
  }

  async #candidate(candidate) {
    if (this.#connection?.remoteDescription) await this.#connection.addIceCandidate(candidate);
    else this.#candidates.push(candidate);
  }

  // One after another: a candidate must not overtake its description.
  #say(action, content) {
    const json = xml`<json xmlns="${JSON_CONTAINER}">${JSON.stringify(content)}</json>`;
    const element = xml`<call xmlns="${CALL}" id="${this.id}" action="${action}">${json}</call>`;
    this.#said = this.#said.then(() => this.#session.iq('set', this.peer, element));
    return this.#said;
  }

  #is(state) {
    if (this.state === 'ended') return;
    this.state = state;
    this.#onChange(this);
  }

  // Whatever fails ends the call, and says why.
  async #try(step) {
    try {
      await step();
    } catch (error) {
      const busy = error.condition === 'resource-constraint';
      this.over(busy ? 'the other side is busy' : error.message);
    }
  }
}
