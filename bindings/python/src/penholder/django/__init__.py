"""A database backend for Django: ``"ENGINE": "penholder.django"``."""
