-- Imported records that consolidation had read where they come from, until the import is finished and a watermark can say so.
CREATE TABLE import_read (
    memory_no INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE
);
