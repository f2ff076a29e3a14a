# lerobot itself, in an environment of its own, opens what we write and writes what we open.
LEROBOT_VENV ?= .lerobot-venv

.PHONY: lerobot
lerobot:
	tests/clients/lerobot/setup.sh $(LEROBOT_VENV)
	LEROBOT_VENV=$(abspath $(LEROBOT_VENV)) .venv/bin/python -m pytest tests/clients/lerobot
