CREATE TABLE entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 500),
    written_by text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
