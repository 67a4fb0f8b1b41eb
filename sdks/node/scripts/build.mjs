// Builds the package twice, for `import` and for `require`, each with its own types.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');

rmSync(join(root, 'dist'), { recursive: true, force: true });
for (const [form, type] of [
  ['esm', 'module'],
  ['cjs', 'commonjs'],
]) {
  const built = spawnSync(process.execPath, [compiler, '-p', `tsconfig.${form}.json`], { cwd: root, stdio: 'inherit' });
  if (built.status !== 0) process.exit(built.status ?? 1);
  writeFileSync(join(root, 'dist', form, 'package.json'), `${JSON.stringify({ type })}\n`);
}
