"""Connections to Android units over ADB, directly or through an adb server."""
