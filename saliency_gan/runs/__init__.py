"""Run folders: one subfolder for each stage, which resumes where it was stopped."""
