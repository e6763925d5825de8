-- Where the other workers of this database ask a worker for its figures and hand it orders: a URL, with the key to it. The
-- key is made anew by each process and worth nothing after it, so a backup of this table opens no door.
ALTER TABLE worker ADD COLUMN IF NOT EXISTS control text;
