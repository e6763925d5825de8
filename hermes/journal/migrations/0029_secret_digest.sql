-- Which secret a worker hashes API keys under: all that live at one time must have the same.
ALTER TABLE worker ADD COLUMN IF NOT EXISTS secret_digest text NOT NULL DEFAULT '';
