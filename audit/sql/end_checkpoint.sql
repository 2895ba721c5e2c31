-- A lane's checkpoint is whole, and sealed.
UPDATE checkpoints SET written_at = clock_timestamp() WHERE lane = $1 AND cut_at = $2
