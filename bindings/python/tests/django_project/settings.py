"""Settings of the Django project of the tests. Only what the environment says differs from the
defaults of a new project."""

import json
import os

DATABASES = {
    "default": {
        "ENGINE": os.environ.get("TICKETS_ENGINE", "penholder.django"),
        "NAME": os.environ.get("TICKETS_DATABASE", "tickets.sqlite3"),
        **json.loads(os.environ.get("TICKETS_SETTINGS", "{}")),
    }
}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "tickets"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "of the tests"
USE_TZ = True
