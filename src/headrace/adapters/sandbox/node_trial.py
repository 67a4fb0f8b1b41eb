"""The trial of a confined Node.js before it runs programs: one attack of each kind."""

ATTACKS = r"""
async function main() {
  const fs = require('fs'), succeeded = [];
  const attempt = (name, action) => { try { action(); succeeded.push(name); } catch {} };
  attempt('read files', () => fs.readFileSync('/proc/self/status'));
  attempt('list files', () => fs.readdirSync('/'));
  attempt('look', () => fs.statSync('/'));
  attempt('write files', () => fs.closeSync(fs.openSync('/dev/null', 'r+')));
  attempt('create files', () => fs.writeFileSync('/tmp/headrace-trial', ''));
  attempt('execute programs', () => {
    const { error } = require('child_process').spawnSync(process.execPath, ['-v']);
    if (error) throw error;
  });
  attempt('signal processes', () => process.kill(process.ppid, 0));
  await new Promise((settle) => {
    const connected = (error) => {
      // ECONNREFUSED and the like: it was allowed, but nothing listens there
      if (!error || !['EPERM', 'EACCES', 'ENOSYS'].includes(error.code)) succeeded.push('reach the network');
      settle();
    };
    attempt('create sockets', () => {
      require('net').connect(9, '127.0.0.1').on('connect', () => connected()).on('error', connected);
      throw 0;
    });
  });
  return { succeeded, version: process.versions.node };
}
"""
