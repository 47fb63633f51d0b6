%% What a component has met with, counted by kind: an array that its processes add to and anybody
%% reads. The table is what metrics and documentation go by.
-module(meerkat_xmpp_counts).

-export([new/0, count/2, all/1, help/0]).
-export_type([counts/0, event/0]).

-opaque counts() :: counters:counters_ref().
-type event() :: answered | pushed | bad_request | forbidden | throttled | flood | malformed
               | too_large | too_deep | not_xml | watchers_full | commands_full | lost.

-spec help() -> [{event(), string()}].
help() ->
    [{answered, "requests answered with what they asked for"},
     {pushed, "changes of services told"},
     {bad_request, "requests that are wrong, or for what there is not"},
     {forbidden, "requests of who may not ask"},
     {throttled, "requests beyond xmpp_rate"},
     {flood, "stanzas of whoever it was that were too many in all, not looked at"},
     {malformed, "stanzas without a good from, to, id or type"},
     {too_large, "stanzas of more than 64 KiB"},
     {too_deep, "stanzas of more than 16 elements within each other"},
     {not_xml, "streams ended because they were not XML, or had a document type"},
     {watchers_full, "clients that cannot be told of changes, for too many are"},
     {commands_full, "commands refused because others were still running"},
     {lost, "connections that ended"}].

-spec new() -> counts().
new() -> counters:new(length(help()), []).

-spec count(counts(), event()) -> ok.
count(Counts, Event) -> counters:add(Counts, position(Event, help(), 1), 1).

position(Event, [{Event, _} | _], N) -> N;
position(Event, [_ | Rows], N) -> position(Event, Rows, N + 1).

-spec all(counts()) -> #{event() => non_neg_integer()}.
all(Counts) ->
    maps:from_list([{Event, counters:get(Counts, position(Event, help(), 1))}
                    || {Event, _} <- help()]).
