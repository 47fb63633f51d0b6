// Where the relay is, and credentials for it: External Service Discovery (XEP-0215), asked of the
// user's own server, and where that does not know, of what it lists, as Meerkat's component.
// Out comes what RTCPeerConnection takes as iceServers.
import { xml } from './xmpp.js';

const EXTDISCO = 'urn:xmpp:extdisco:2';
const INFO = 'http://jabber.org/protocol/disco#info';
const ITEMS = 'http://jabber.org/protocol/disco#items';

// For one call: credentials end, so they are asked for when a call begins and not kept.
export async function iceServers(session) {
  const place = await whoKnows(session);
  if (!place) throw new Error(`nobody at ${session.domain} tells of a relay (XEP-0215)`);
  const told = await session.iq('get', place, xml`<services xmlns="${EXTDISCO}"/>`);
  const services = await Promise.all(
    attributes(told, 'service')
      .filter(({ type }) => /^(stun|turn)s?$/.test(type))
      .map((service) => withCredentials(session, place, service)),
  );
  const servers = services.filter((service) => service !== null).map(iceServer);
  if (!servers.some(({ username }) => username)) throw new Error(`${place} tells of no relay`);
  return servers;
}

async function whoKnows(session) {
  if (await knows(session, session.domain)) return session.domain;
  const items = await session.iq('get', session.domain, xml`<query xmlns="${ITEMS}"/>`);
  const places = attributes(items, 'item').map(({ jid }) => jid);
  const those = await Promise.all(places.map((place) => knows(session, place)));
  return places.find((_, i) => those[i]);
}

// An item that does not answer, or not well, does not know.
async function knows(session, place) {
  try {
    const info = await session.iq('get', place, xml`<query xmlns="${INFO}"/>`);
    return attributes(info, 'feature').some((feature) => feature.var === EXTDISCO);
  } catch {
    return false;
  }
}

// Some servers tell them with the services, some on demand (XEP-0215 3.3). A relay that gives none
// is left out.
async function withCredentials(session, place, service) {
  const { type, host, port, username } = service;
  if (type.startsWith('stun') || username) return service;
  try {
    const asked = port
      ? xml`<service type="${type}" host="${host}" port="${port}"/>`
      : xml`<service type="${type}" host="${host}"/>`;
    const told = await session.iq('get', place,
      xml`<credentials xmlns="${EXTDISCO}">${asked}</credentials>`);
    const [found] = attributes(told, 'service').filter((one) => one.username);
    return found ? { ...service, ...found } : null;
  } catch {
    return null;
  }
}

// As URIs of RFC 7064 and 7065 have it.
function iceServer({ type, host, port, transport, username, password }) {
  const name = host.includes(':') ? `[${host}]` : host;
  const place = `${type}:${name}${port ? `:${port}` : ''}`;
  if (type.startsWith('stun')) return { urls: place };
  return { urls: transport ? `${place}?transport=${transport}` : place, username, credential: password };
}

const attributes = (element, tag) =>
  [...(element?.getElementsByTagName(tag) ?? [])].map((child) =>
    Object.fromEntries([...child.attributes].map(({ name, value }) => [name, value])));
