-- When the n-th batch of a thousand rows is settled, and partitions for all of that time.
CREATE TABLE fill_instants (starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL);

CREATE FUNCTION fill_instant(place double precision) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT starts_at + (ends_at - starts_at) * place FROM fill_instants
$$;

CREATE FUNCTION fill_months(months integer) RETURNS void
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    month timestamp := date_trunc('month', now()) - make_interval(months => months - 1);
BEGIN
    INSERT INTO fill_instants VALUES (month AT TIME ZONE 'UTC',
                                      greatest(now(), month AT TIME ZONE 'UTC'));
    WHILE month <= now() LOOP
        IF to_regclass('journal_' || to_char(month, 'YYYY_MM')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF journal FOR VALUES FROM (%L) TO (%L)',
                           'journal_' || to_char(month, 'YYYY_MM'), month::text || '+00',
                           (month + interval '1 month')::text || '+00');
            EXECUTE format('GRANT SELECT, INSERT ON %I TO funnel_consumer',
                           'journal_' || to_char(month, 'YYYY_MM'));
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;
