#include "shaken.h"

#include "count.h"

static enum counter counter_of(enum tls_failure why)
{
    static const enum counter counters[] = {
        [TLS_FAIL_NONE] = CTR_handshakes_broken,
        [TLS_FAIL_NOT_TLS] = CTR_handshakes_broken,
        [TLS_FAIL_VERSION] = CTR_handshakes_version,
        [TLS_FAIL_CIPHER] = CTR_handshakes_cipher,
        [TLS_FAIL_ALPN] = CTR_handshakes_alpn,
        [TLS_FAIL_REFUSED] = CTR_handshakes_refused,
        [TLS_FAIL_NO_CERT] = CTR_handshakes_no_certificate,
        [TLS_FAIL_CERT] = CTR_handshakes_bad_certificate,
        [TLS_FAIL_PROTOCOL] = CTR_handshakes_broken,
    };
    return counters[why];
}

void shaken_failed(struct shard *sh, enum handshake_end end, const struct tls_session *tls)
{
    if (end == HANDSHAKE_LATE)
        count(sh, CTR_handshakes_late);
    else if (end == HANDSHAKE_GONE)
        count(sh, CTR_handshakes_left);
    else
        count(sh, counter_of(tls ? tls_failure(tls) : TLS_FAIL_NONE));
}
