"""Stream speech through translation, recognition and synthesis services.

Import the part you need: `speechwire.codec` for the audio core alone, `speechwire.gradium` for the client,
`speechwire.server` for the local server. This package itself loads nothing.
"""
