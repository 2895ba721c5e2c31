-- Why a letter cannot be redriven now: is it there, is a redrive of it under way?
SELECT EXISTS (SELECT FROM dead_letters WHERE lane = $1 AND result_sequence = $2) AS known,
       EXISTS (SELECT FROM redrives
               WHERE lane = $1 AND result_sequence = $2 AND ended_at IS NULL) AS under_way
