"""The viewer: turn a generated object in a browser, also when the model runs far away.

`state` is everything the user can set, `pictures` makes a picture of it, `session` decides which
state is drawn next and how finely; none of them knows a browser. `app` and the `panels_*` show it
all with viser, which needs `pip install "eg3d-open[viewer]"`.
"""
