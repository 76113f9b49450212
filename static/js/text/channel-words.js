/** The words of finding, making and changing channels. */

export const channelWords = {
  joined: 'Joined',
  archived: 'Archived',
  adminsWrite: 'only admins write',
  whoWrites: 'Who writes',
  writers: {all: 'Everybody', admins: 'Admins'},
};
