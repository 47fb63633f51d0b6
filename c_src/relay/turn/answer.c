#include "answer.h"

#include <string.h>

#include "capturing.h"
#include "count.h"
#include "notice.h"

/* Answers without credentials come out of the asker's budget, where his address proves nothing. */
bool answer_allowed(struct shard *sh, const struct flow *f)
{
    bool allowed = ratelimit_take(&sh->config.limits->unauthenticated, &f->client, sh->time.now);
    if (UNLIKELY(!allowed))
        notice_over_rate(sh, f, false);
    return allowed;
}

/* Without integrity or credentials: what is wrong is said to whoever asks (RFC 8489 6.3.1.1). */
void answer_error(struct shard *sh, const struct flow *f, const struct stun_view *v, uint16_t code)
{
    struct stun_builder b;
    count(sh, CTR_bad_requests);
    if (!answer_allowed(sh, f))
        return;
    uint8_t *buf = io_scratch(sh->io, 128);
    stun_build_response(&b, buf, 128, STUN_ERROR, v);
    stun_put_error(&b, code, NULL);
    if (code == 420)
        stun_put_unknown(&b, v->unknown, v->unknown_count);
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    size_t len = stun_build_end(&b);
    if (len)
        f->transport->send(sh, f, buf, len);
}

void answer_send(struct shard *sh, const struct flow *f, const uint8_t *packet, size_t len)
{
    uint8_t *copy = io_scratch(sh->io, len);
    memcpy(copy, packet, len);
    capturing_message(sh, f, false, packet, len);
    f->transport->send(sh, f, copy, len);
    count(sh, CTR_answers);
}
