'use strict';
// Ends with 0 when this replica says that it can serve.
const { get } = require('node:http');

get('http://127.0.0.1:3000/healthz', { timeout: 2000 }, (response) => {
  process.exit(response.statusCode === 200 ? 0 : 1);
}).on('error', () => process.exit(1)).on('timeout', () => process.exit(1));
