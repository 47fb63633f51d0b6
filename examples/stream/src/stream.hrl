%% An XML element as fast_xml has it; its own header stands in a directory whose name differs
%% between Debian and hex.
-record(xmlel, {name :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: [#xmlel{} | {xmlcdata, iodata()}]}).
