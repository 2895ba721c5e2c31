-- The organizations that have sent a command with this id: $2 to $3 holds the identities of all
-- commands whose UUIDv7 has its millisecond. What settled none (a repeat, a reroute, a dead letter)
-- has no identity; few rows are so, and PostgreSQL skips from organization to organization there.
SELECT organization_id FROM journal
WHERE identity BETWEEN $2 AND $3 AND command_id = $1 AND organization_id IS NOT NULL
UNION
SELECT organization_id FROM journal
WHERE command_id = $1 AND organization_id IS NOT NULL
  AND identity IS NULL AND kind IN ('command', 'reroute', 'dead_letter')
ORDER BY organization_id
