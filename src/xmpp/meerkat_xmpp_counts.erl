%% What happened to a component, counted by kind: an array that its processes add to and anybody
%% reads. The table is what metrics and documentation go by.
-module(meerkat_xmpp_counts).

-export([new/0, count/2, all/1, help/0]).
-export_type([counts/0, event/0]).

-opaque counts() :: counters:counters_ref().
-type event() :: answered | pushed | bad_request | forbidden | throttled | flood | malformed
               | too_large | too_deep | not_xml | watchers_full | commands_full | lost.

-spec help() -> [{event(), string()}].
help() ->
    [{answered, "requests that were answered with what they asked for"},
     {pushed, "messages that told a client of a change of services"},
     {bad_request, "requests that are malformed, or ask for something that does not exist"},
     {forbidden, "requests of users who may not ask"},
     {throttled, "requests beyond xmpp_rate"},
     {flood, "stanzas dropped unread because there were too many in all"},
     {malformed, "stanzas without a good from, to, id or type"},
     {too_large, "stanzas of more than 64 KiB"},
     {too_deep, "stanzas with more than 16 levels of elements"},
     {not_xml, "streams ended because they were not XML, or had a document type"},
     {watchers_full, "clients that will not be told of changes, because 10,000 are already"},
     {commands_full, "commands refused because too many were still running"},
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
