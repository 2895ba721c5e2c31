-- All keys below a number are compared; what was found, and how many were repaired.
UPDATE shadow.run SET compared = $1, repaired = $2, findings = $3
