"""The page at `/`: the API tried out and the batch watched in a browser.

The files in `static` are plain HTML, CSS and JavaScript modules, which no build step makes;
`endpoints.py` sends them. They hold no data and need no key: what they show, they ask for at the
other endpoints, with the key that the reader types.
"""
