/*
 * The front door: whatever a client sends comes in here, whatever it travelled on, and is answered,
 * forwarded, handed to Erlang or dropped under a reason. See input.c for the order of the rooms
 * behind it: binding.c, challenge.c, forward.c, request.c.
 */
#ifndef MEERKAT_INPUT_H
#define MEERKAT_INPUT_H

#include "worker.h"

/* One whole message of a client. data has IO_HEADROOM and IO_TAILROOM around it and may be
 * changed. */
void input_message(struct worker *w, const struct flow *f, uint8_t *data, size_t len);

/* A request to Binding is answered, an indication is a keepalive. */
void binding_request(struct worker *w, const struct flow *f, struct stun_view *v);

/* True when the request may go to Erlang: it carries integrity, the attributes that go with it,
 * and a nonce of ours that is good for this client. Otherwise it has been answered 401, 400 or
 * 438 (RFC 8489 9.2.4). */
bool challenge_passed(struct worker *w, const struct flow *f, const struct stun_view *v);

/* ChannelData from a client; Send indication; datagram from a peer; what ICMP said of one to it. */
void forward_channel(struct worker *w, struct session *s, uint8_t *data, size_t len);
void forward_send(struct worker *w, struct session *s, const struct stun_view *v);
void forward_peer(struct worker *w, struct relayed *r, struct io_packet *p);
void forward_icmp(struct worker *w, struct relayed *r, const struct io_icmp *icmp);

/* Takes a credit and hands the request to Erlang, or drops it. */
void request_forward(struct worker *w, const struct flow *f, const uint8_t *data, size_t len);
/* ANSWER: sends the packet, returns the credit. */
void request_answer(struct worker *w, uint64_t flow, const uint8_t *packet, size_t len);
/* Is anybody waiting for an answer through this listener? */
bool request_pending_on(struct worker *w, const struct listener *l);

/* An error response of a code alone, sent; `unknown` as for 420. */
void respond_error(struct worker *w, const struct flow *f, const struct stun_view *v,
                   uint16_t code);

/* A command of Erlang's that is this worker's; false when it must be tried again later, because
 * there is no room for its reply. */
bool command_frame(struct worker *w, const uint8_t *data, size_t len);
bool command_alloc(struct worker *w, const struct mail_alloc *m);
void command_policy(struct worker *w, struct policy *p);
/* A deadline of a family has come: ends what is over. */
void command_expire(struct worker *w, struct session *s);
/* Ends a session: SESSION_GONE follows when its sockets are closed. */
void command_end(struct worker *w, struct session *s, enum gone_reason reason);
/* A relayed socket is closed for good. */
void command_socket_closed(struct worker *w, struct relayed *r);
/* Tells Erlang of sessions that are gone, as far as there is room. */
void command_report_gone(struct worker *w);

/* RFC 8016: a session gets another 5-tuple; false when there is no room for the reply. */
bool move_session(struct worker *w, const struct mail_move *m);
/* A new session's client comes to the worker `home`, which was another where it has moved. */
void move_settle(struct worker *w, struct session *s, unsigned home);
/* The 5-tuple whose datagrams come to this worker, though the session lives in another. */
void move_roamer(struct worker *w, const struct mail_roam *m);
/* A message from such a 5-tuple, where it came in, and where it belongs. False: no such 5-tuple. */
bool move_carry(struct worker *w, const struct flow *f, uint8_t *data, size_t len);
void move_carried(struct worker *w, const struct mail_carry *m, const uint8_t *data);
/* The session is ending: its 5-tuples are nobody's. */
void move_forget(struct worker *w, struct session *s);

/* May a stranger be answered? Counts when not. */
bool may_answer(struct worker *w, const struct flow *f);
/* A Binding request without magic cookie (RFC 3489), as far as it is one; false otherwise. */
bool binding_classic(struct worker *w, const struct flow *f, const uint8_t *data, size_t len);

#endif
