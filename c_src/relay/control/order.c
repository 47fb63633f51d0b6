#include "order.h"

#include "allocs.h"
#include "certificates.h"
#include "fronts.h"
#include "listeners.h"
#include "log.h"
#include "post_office.h"
#include "retiring.h"
#include "rules.h"
#include "stats.h"
#include "survival.h"
#include "takeover.h"
#include "workers.h"

/* The worker a command is for is the top byte of its session or flow, its first field. */
static void forward_to_worker(struct control *c, const struct ctl_frame *f, const uint8_t *frame,
                              size_t len)
{
    unsigned index = frame[CTL_HEADER_LEN];
    if (index < c->worker_count)
        office_mail(c, index, MAIL_FRAME, frame, len);
    else if (f->code != CTL_ANSWER && f->code != CTL_ANSWER_IF)
        pipe_reply(&c->pipe, f, CTL_GONE, "");
}

void order_frame(struct control *c, const uint8_t *frame, size_t len)
{
    struct ctl_frame f;
    enum ctl_err err = ctl_decode(&f, frame, len);
    if (err != CTL_ERR_NONE || ctl_code_way(f.code) != CTL_E2R) {
        log_error("frame from Erlang is not in the protocol: %s",
                  err ? ctl_err_name(err) : ctl_code_name(f.code));
        pipe_end(&c->pipe, EXIT_PROTOCOL);
        return;
    }
    switch (f.code) {
    case CTL_CONFIG:
        workers_config(c, &f);
        break;
    case CTL_LISTEN:
        listeners_open(c, &f);
        break;
    case CTL_UNLISTEN:
        listeners_close(c, &f, frame, len);
        break;
    case CTL_RELAY_ADDRESS:
        allocs_address(c, &f);
        break;
    case CTL_TUNE:
        workers_tune(c, &f, frame, len);
        break;
    case CTL_GRANTS:
        workers_grants(c, &f, frame, len);
        break;
    case CTL_JOURNAL:
        workers_journal(c, &f, frame, len);
        break;
    case CTL_POOL_CLOSE:
        allocs_pool_close(c, &f);
        break;
    case CTL_POLICY:
        rules_set(c, &f);
        break;
    case CTL_ALLOC_CREATE:
        allocs_create(c, &f);
        break;
    case CTL_STREAMS:
        workers_streams(c, &f);
        break;
    case CTL_CERTIFICATES:
        certs_set(c, &f);
        break;
    case CTL_FRONT:
        fronts_set(c, &f);
        break;
    case CTL_BUCKET:
        workers_bucket(c, &f);
        break;
    case CTL_ALLOC_MOVE:
        allocs_move(c, &f);
        break;
    case CTL_KEEP:
        survival_keep(c, &f);
        break;
    case CTL_ADOPT:
        if (c->takeover.pending)
            takeover_adopt(c, &f);
        else
            survival_adopt(c, &f);
        break;
    case CTL_STATES:
        if (c->takeover.pending)
            takeover_states(c, &f);
        else
            forward_to_worker(c, &f, frame, len);
        break;
    case CTL_RETIRE:
        retiring_ask(c, &f);
        break;
    case CTL_LIVE:
        if (c->takeover.pending)
            takeover_live(c, &f);
        else
            survival_live(c, &f);
        break;
    case CTL_STOP:
        pipe_end(&c->pipe, 0);
        break;
    case CTL_STATS:
        stats(c, &f);
        break;
    default:
        forward_to_worker(c, &f, frame, len);
    }
}
