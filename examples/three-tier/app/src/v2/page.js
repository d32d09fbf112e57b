'use strict';
// The page of version 2: a table that says who wrote what and when.

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

const row = (entry) => `<tr><td>${entry.id}</td><td>${escape(entry.text)}</td>
<td>${escape(entry.written_by)}</td><td>${entry.written_at.toISOString()}</td></tr>`;

exports.page = (entries, me) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Journal ${me.version}</title>
<style>
  body { font-family: sans-serif; margin: 3rem auto; max-width: 50rem; color: #123 }
  td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #cde }
</style>
<h1>Journal</h1>
<table>${entries.map(row).join('')}</table>
<p>${entries.length} entries. ${me.version}, served by ${me.hostname}</p>
`;
