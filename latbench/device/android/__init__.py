"""Android phones, over ADB."""
