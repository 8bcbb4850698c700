"""The viewer: turn a generated object in a browser, also when the model runs far away.

`state` is everything the user can set, `painter` makes a picture of it, `session` decides which
state is drawn next and how finely; none of them knows a browser. `app` and `panels` show it all
with viser.
"""
