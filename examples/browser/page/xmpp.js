// A session with an XMPP server over WebSocket (RFC 7395): login, contacts and which of them are
// there, IQs as promises. Knows nothing of calls. The library beneath is strophe.js.
import { $build, Strophe, stx } from '/strophe.js';

const ROSTER = 'jabber:iq:roster';
const ANSWER_MS = 15_000;

// What an IQ was answered with when it was no result, by its condition (RFC 6120 8.3.3), such as
// service-unavailable; and what is answered when a handler of this side throws it.
export class Refused extends Error {
  constructor(condition) {
    super(condition.replaceAll('-', ' '));
    this.condition = condition;
  }
}

// Elements to put into IQs; what is put into them is escaped: xml`<service host="${host}"/>`.
export const xml = stx;

export const bare = (jid) => Strophe.getBareJidFromJid(jid);

export class Session {
  // Bare JID to { jid, name, places }: the full JIDs they are there at, the latest one last.
  contacts = new Map();
  onContacts = () => {};
  // With the full JID of a contact that is there no more.
  onGone = () => {};
  onEnd = () => {};
  #connection;
  #handlers = new Map();

  constructor(connection) {
    this.#connection = connection;
    this.jid = connection.jid;
    this.domain = Strophe.getDomainFromJid(connection.jid);
    connection.addHandler((stanza) => this.#asked(stanza), null, 'iq', ['get', 'set']);
    connection.addHandler((stanza) => this.#presence(stanza), null, 'presence');
  }

  // Resolves with a session that knows its contacts and is there for them; rejects with a sentence.
  static async login(url, jid, password) {
    const session = await connected(new Strophe.Connection(url), jid, password);
    session.handle(ROSTER, (from, query) => {
      if (from && from !== bare(session.jid)) throw new Refused('forbidden');
      session.#known(query);
    });
    session.#known(await session.iq('get', bare(session.jid), xml`<query xmlns="${ROSTER}"/>`));
    session.#connection.send(xml`<presence xmlns="jabber:client"/>`);
    return session;
  }

  logout() {
    this.#connection.disconnect();
  }

  // Asks (get) or tells (set). Resolves with the child element of the result, or null; rejects with
  // Refused, for remote-server-timeout where nobody answers.
  iq(type, to, payload) {
    return new Promise((resolve, reject) => {
      this.#connection.sendIQ(
        xml`<iq xmlns="jabber:client" type="${type}" to="${to}">${payload}</iq>`,
        (result) => resolve(result.firstElementChild),
        (error) => reject(refusal(error)),
        ANSWER_MS,
      );
    });
  }

  // IQs of type set with an element of this namespace come to `handler(from, element)` and are
  // answered with a result, or with the error that it throws.
  handle(namespace, handler) {
    this.#handlers.set(namespace, handler);
  }

  // Whatever comes is answered: who asks for something unknown is told so (RFC 6120 8.2.3).
  #asked(stanza) {
    const [id, from, type] = ['id', 'from', 'type'].map((name) => stanza.getAttribute(name));
    const element = stanza.firstElementChild;
    let answer = ['result', ''];
    try {
      const handler = type === 'set' && this.#handlers.get(element?.namespaceURI);
      if (!handler) throw new Refused('service-unavailable');
      handler(from, element);
    } catch (error) {
      const condition = error instanceof Refused ? error.condition : 'bad-request';
      const said = $build(condition, { xmlns: Strophe.NS.STANZAS });
      answer = ['error', xml`<error type="cancel">${said}</error>`];
    }
    const [outcome, payload] = answer;
    const to = from ?? bare(this.jid);
    this.#connection.send(xml`<iq xmlns="jabber:client" type="${outcome}" id="${id}" to="${to}">${payload}</iq>`);
    return true;
  }

  #known(query) {
    for (const item of query.getElementsByTagName('item')) {
      const jid = item.getAttribute('jid');
      if (item.getAttribute('subscription') === 'remove') {
        this.contacts.delete(jid);
      } else {
        const places = this.contacts.get(jid)?.places ?? new Set();
        this.contacts.set(jid, { jid, name: item.getAttribute('name') || jid, places });
      }
    }
    this.onContacts();
  }

  #presence(stanza) {
    const from = stanza.getAttribute('from');
    const places = this.contacts.get(bare(from))?.places;
    const type = stanza.getAttribute('type');
    if (places?.delete(from) && type !== null) this.onGone(from);
    if (type === null) places?.add(from);
    this.onContacts();
    return true;
  }
}

function connected(connection, jid, password) {
  const { Status } = Strophe;
  return new Promise((resolve, reject) => {
    let session;
    connection.connect(jid, password, (status, condition) => {
      if (status === Status.CONNECTED) {
        session = new Session(connection);
        resolve(session);
      } else if (status === Status.AUTHFAIL) {
        reject(new Error('the server knows no such user with this password'));
      } else if (status === Status.CONNFAIL || status === Status.DISCONNECTED) {
        reject(new Error(`no connection to the server${condition ? ` (${condition})` : ''}`));
        session?.onEnd();
      }
    });
  });
}

function refusal(error) {
  const condition = error?.querySelector('error')?.firstElementChild?.localName;
  return new Refused(condition ?? 'remote-server-timeout');
}
