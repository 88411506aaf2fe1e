/** How many runs a campaign makes: `normally`, or `full` when PARAVIRT_FULL is set, and then it says so. */
export function runs(normally: number, full: number): number {
  if (!process.env['PARAVIRT_FULL']) return normally;
  console.log(`campaign of ${full} runs`);
  return full;
}
