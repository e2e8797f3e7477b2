"""The web app's parts: recognising for many at once, history, API, protection, pages."""
