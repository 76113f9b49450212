/** The words of coming in by invitation, by approval, and by a link for a new password. */

export const joiningWords = {
  inviteCode: 'Invitation code',
  inviteCodeHint: 'It stands in the invitation that somebody here gave you.',
  invitedLead: 'You have been invited. Choose a name and a password.',
  approveHint: 'An administrator lets you in after you have created your account.',
  waitingTitle: 'Almost there',
  waiting: name => `The account ${name} has been created. An administrator has yet to let you in: sign in later.`,
  newPasswordFor: name => `Set a new password for ${name}`,
  newPasswordLead: 'This ends every session of the account, on all devices.',
  setPassword: 'Set password and sign in',
  linkVoid: 'This link does not work',
  toSignIn: 'Go to sign in',
};
