-- Hands over lanes that carry a consumer's name although it does not hold them.
UPDATE lanes SET owner = NULL WHERE owner = $1 AND lane <> ALL ($2::integer[])
