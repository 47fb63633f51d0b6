%% What meerkat_doctor says of the database that users are looked up in.
-module(meerkat_doctor_database).

-export([examine/1]).

%% Of what a running server says of itself; nothing where no database is configured, or no server
%% runs.
-spec examine(#{database => null | map(), _ => _}) ->
    [{meerkat_doctor:verdict(), unicode:chardata(), Remedy :: none | unicode:chardata()}].
examine(#{database := #{name := Name, away := null, connections := N}}) ->
    [{ok, ["users are looked up in ", meerkat_text:printable(Name),
           io_lib:format(", ~b connections", [N])], none}];
examine(#{database := #{name := Name, away := Why}}) ->
    [{error, [meerkat_text:printable(Name), " does not answer: ", meerkat_text:printable(Why)],
      "users who are known come in for cache_grace, others get no answer until it is there again"}];
examine(_) ->
    [].
