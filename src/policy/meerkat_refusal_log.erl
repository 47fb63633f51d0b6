%% Says in the log why a request was refused: with `notice`, so that an operator sees it without
%% asking, but only so often that nobody can fill a disk by being wrong. A source prefix (IPv4 /32,
%% IPv6 /64) has five lines and then one a minute, all together ten and then two a second; what is
%% left out is counted in the next line, and is in the log at `debug`. Refusals of strangers and
%% refusals of known users have a budget each, so the ones do not keep the others out of the log.
%%
%% Any process may ask; two that do so at a time may write one line more.
-module(meerkat_refusal_log).

-include_lib("kernel/include/logger.hrl").

-export([new/0, refused/4, write/4, verdict/3]).

-export_type([refusals/0]).

%% 32 KiB. Sources that meet in one bucket share its lines.
-define(BUCKETS, 4096).
%% What a line costs, and what is there at most.
-define(OF_ONE, {60000000, 300000000}).
-define(OF_ALL, {500000, 5000000}).

%% In microseconds, when those that were used up will be there again (GCRA): first of all lines,
%% from the third place on of each bucket's. The second place: lines left out since the last one.
-record(refusals, {places :: atomics:atomics_ref(), key :: binary()}).
-opaque refusals() :: #refusals{}.

-spec new() -> refusals().
new() ->
    #refusals{places = atomics:new(?BUCKETS + 2, []), key = crypto:strong_rand_bytes(16)}.

%% Who asked from Client was not known: the request was answered Code, or nothing. Why says it in
%% words, with what strangers sent escaped, and is called where there is a line to write.
-spec refused(refusals(), 400 | 401 | unavailable, meerkat_ctl:address(),
              fun(() -> unicode:chardata())) -> ok.
refused(Refusals, Code, {Ip, _} = Client, Why) ->
    write(Refusals, Ip, #{}, fun() ->
        [said(Code), " to ", meerkat_text:address(Client), ": ", Why()]
    end).

%% A line about a source, with notice while there may be more of them, else with debug.
-spec write(refusals(), inet:ip_address(), logger:metadata(), fun(() -> unicode:chardata())) -> ok.
write(Refusals, Ip, Meta, Line) ->
    case verdict(Refusals, Ip, meerkat_auth_failures:now_us()) of
        {log, 0} ->
            ?LOG_NOTICE("~ts", [Line()], Meta);
        {log, LeftOut} ->
            ?LOG_NOTICE("~ts (~b more were refused since the last such line)", [Line(), LeftOut],
                        Meta);
        leave_out ->
            ?LOG_DEBUG("~ts", [Line()], Meta)
    end.

said(unavailable) -> "no answer";
said(Code) -> integer_to_list(Code).

%% Does this one get a line, and how many did not since the last? Takes the line.
-spec verdict(refusals(), inet:ip_address(), NowUs :: non_neg_integer()) ->
    {log, LeftOut :: non_neg_integer()} | leave_out.
verdict(#refusals{places = Places} = Refusals, Ip, NowUs) ->
    Bucket = bucket(Refusals, Ip),
    case {more(Places, Bucket, ?OF_ONE, NowUs), more(Places, 1, ?OF_ALL, NowUs)} of
        {{yes, OfOne}, {yes, OfAll}} ->
            ok = atomics:put(Places, Bucket, OfOne),
            ok = atomics:put(Places, 1, OfAll),
            {log, atomics:exchange(Places, 2, 0)};
        _ ->
            ok = atomics:add(Places, 2, 1),
            leave_out
    end.

more(Places, Place, {Step, Most}, NowUs) ->
    case max(atomics:get(Places, Place), NowUs) + Step of
        Next when Next =< NowUs + Most -> {yes, Next};
        _ -> no
    end.

bucket(#refusals{key = Key}, Ip) ->
    <<Hash:64, _/binary>> = crypto:mac(hmac, sha256, Key, meerkat_prefix:source(Ip)),
    Hash rem ?BUCKETS + 3.
