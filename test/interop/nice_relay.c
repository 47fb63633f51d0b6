/*
 * Lets two libnice agents meet through a TURN server, and through it only.
 *
 *     nice_relay HOST PORT USER PASSWORD [udp|tcp]
 *
 * Both agents live in this process and offer nothing but relayed candidates, so connectivity
 * checks and payloads must travel client - server - server - client. Ends with "nice relay: ok" and
 * status 0, or with a sentence and status 1.
 *
 *     cc -o nice_relay nice_relay.c $(pkg-config --cflags --libs nice)
 */
#include <nice/agent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_S = 30, BEAT_MS = 5, ROUNDS = 3 };

static const guint sizes[] = {1, 2, 3, 4, 7, 100, 172, 500, 1000, 1200};

struct end {
    const char *name;
    struct end *other;
    NiceAgent *agent;
    guint stream;
    gboolean gathered, ready;
    guint arrived, bytes;
    guint done; /* sizes of which enough arrived */
    guint seen[G_N_ELEMENTS(sizes)];
};

static GMainLoop *loop;
static guint beat;

static void fail(const char *name, const char *what)
{
    fprintf(stderr, "nice relay: FAILED: %s %s\n", name, what);
    exit(1);
}

/* Every byte of a payload tells its size and its sender. */
static void fill(guint8 *payload, guint i, const struct end *sender)
{
    memset(payload, (int)(i * 16 + (guint8)sender->name[5]), sizes[i]);
}

static void on_data(NiceAgent *agent, guint stream, guint component, guint len, gchar *data,
                    gpointer user)
{
    struct end *end = user;
    guint8 expected[1200];
    (void)agent, (void)stream, (void)component;
    guint i = 0;
    while (i < G_N_ELEMENTS(sizes) && sizes[i] != len)
        i++;
    if (i == G_N_ELEMENTS(sizes))
        fail(end->name, "got a payload of a size nobody sent");
    fill(expected, i, end->other);
    if (memcmp(data, expected, len) != 0)
        fail(end->name, "got a payload nobody sent");
    end->arrived++;
    end->bytes += len;
    if (++end->seen[i] == ROUNDS && ++end->done == G_N_ELEMENTS(sizes) &&
        end->other->done == G_N_ELEMENTS(sizes))
        g_main_loop_quit(loop);
}

static void check_pair(struct end *end)
{
    NiceCandidate *local, *remote;
    gchar here[INET6_ADDRSTRLEN], there[INET6_ADDRSTRLEN];
    if (!nice_agent_get_selected_pair(end->agent, end->stream, 1, &local, &remote))
        fail(end->name, "selected no pair");
    if (local->type != NICE_CANDIDATE_TYPE_RELAYED || remote->type != NICE_CANDIDATE_TYPE_RELAYED)
        fail(end->name, "did not select relay to relay");
    nice_address_to_string(&local->addr, here);
    nice_address_to_string(&remote->addr, there);
    printf("%s: relay %s:%u -> relay %s:%u\n", end->name, here, nice_address_get_port(&local->addr),
           there, nice_address_get_port(&remote->addr));
}

/* One payload each way at a time, the sizes in turn, until enough of every size are there: in the
 * first moments of a pair libnice may drop what comes in. */
static gboolean on_beat(gpointer ends)
{
    static guint turn;
    guint8 payload[1200];
    guint i = turn++ % G_N_ELEMENTS(sizes);
    for (struct end *end = ends; end < (struct end *)ends + 2; end++) {
        fill(payload, i, end);
        if (nice_agent_send(end->agent, end->stream, 1, sizes[i], (gchar *)payload) !=
            (gint)sizes[i])
            fail(end->name, "could not send");
    }
    return G_SOURCE_CONTINUE;
}

static void on_state(NiceAgent *agent, guint stream, guint component, guint state, gpointer user)
{
    struct end *end = user;
    (void)agent, (void)stream, (void)component;
    if (state == NICE_COMPONENT_STATE_FAILED)
        fail(end->name, "did not get through");
    if (state != NICE_COMPONENT_STATE_READY || end->ready)
        return;
    end->ready = TRUE;
    if (end->other->ready) {
        check_pair(end);
        check_pair(end->other);
        beat = g_timeout_add(BEAT_MS, on_beat, end < end->other ? end : end->other);
    }
}

/* What a signalling channel would carry. */
static void introduce(struct end *from, struct end *to)
{
    gchar *sdp = nice_agent_generate_local_sdp(from->agent);
    if (!strstr(sdp, "typ relay"))
        fail(from->name, "got no allocation");
    if (strstr(sdp, "typ host") || strstr(sdp, "typ srflx"))
        fail(from->name, "offers more than its allocation");
    if (nice_agent_parse_remote_sdp(to->agent, sdp) <= 0)
        fail(to->name, "did not understand the offer");
    g_free(sdp);
}

static void on_gathered(NiceAgent *agent, guint stream, gpointer user)
{
    struct end *end = user;
    (void)agent, (void)stream;
    end->gathered = TRUE;
    if (end->other->gathered) {
        introduce(end, end->other);
        introduce(end->other, end);
    }
}

static void start(struct end *end, gboolean controlling, char **argv)
{
    end->agent = nice_agent_new(NULL, NICE_COMPATIBILITY_RFC5245);
    g_object_set(end->agent, "controlling-mode", controlling, "force-relay", TRUE, "upnp", FALSE,
                 "ice-tcp", FALSE, NULL);
    NiceAddress *here = nice_address_new();
    if (!nice_address_set_from_string(here, argv[1]))
        fail(argv[1], "is no address");
    /* Whoever reaches a server on loopback does so from there; libnice would not think of it. */
    if (g_str_has_prefix(argv[1], "127.") || strcmp(argv[1], "::1") == 0)
        nice_agent_add_local_address(end->agent, here);
    nice_address_free(here);
    end->stream = nice_agent_add_stream(end->agent, 1);
    nice_agent_set_stream_name(end->agent, end->stream, "application");
    nice_agent_set_relay_info(end->agent, end->stream, 1, argv[1], (guint)atoi(argv[2]), argv[3],
                              argv[4],
                              argv[5] && strcmp(argv[5], "tcp") == 0 ? NICE_RELAY_TYPE_TURN_TCP
                                                                     : NICE_RELAY_TYPE_TURN_UDP);
    nice_agent_attach_recv(end->agent, end->stream, 1, NULL, on_data, end);
    g_signal_connect(end->agent, "candidate-gathering-done", G_CALLBACK(on_gathered), end);
    g_signal_connect(end->agent, "component-state-changed", G_CALLBACK(on_state), end);
    if (!nice_agent_gather_candidates(end->agent, end->stream))
        fail(end->name, "could not gather candidates");
}

/* The allocation is given back: a Refresh of lifetime 0. */
static void on_closed(GObject *agent, GAsyncResult *result, gpointer left)
{
    (void)result;
    g_object_unref(agent);
    if (--*(int *)left == 0)
        g_main_loop_quit(loop);
}

static gboolean on_limit(gpointer ends)
{
    struct end *end = ends;
    fprintf(stderr, "nice relay: FAILED: %u and %u payloads after %d seconds\n", end[0].arrived,
            end[1].arrived, LIMIT_S);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: %s HOST PORT USER PASSWORD [udp|tcp]\n", argv[0]);
        return 2;
    }
    struct end ends[2] = {{.name = "the caller"}, {.name = "the answerer"}};
    ends[0].other = &ends[1];
    ends[1].other = &ends[0];
    loop = g_main_loop_new(NULL, FALSE);
    g_timeout_add_seconds(LIMIT_S, on_limit, ends);
    start(&ends[0], TRUE, argv);
    start(&ends[1], FALSE, argv);
    g_main_loop_run(loop);
    g_source_remove(beat);
    int left = 2;
    for (int i = 0; i < 2; i++) {
        printf("%s got %u payloads, %u bytes\n", ends[i].name, ends[i].arrived, ends[i].bytes);
        nice_agent_close_async(ends[i].agent, on_closed, &left);
    }
    g_main_loop_run(loop);
    puts("nice relay: ok");
    return 0;
}
