"""Run folders: one subfolder for each stage. A stage resumes where it was stopped."""
