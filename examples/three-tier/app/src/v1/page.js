'use strict';
// The page of version 1: a plain list.

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

exports.page = (entries, me) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Journal ${me.version}</title>
<h1>Journal</h1>
<ul>${entries.map((entry) => `<li>${escape(entry.text)}</li>`).join('')}</ul>
<p>${me.version}, served by ${me.hostname}</p>
`;
