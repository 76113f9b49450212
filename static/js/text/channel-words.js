/** The words of finding, making and changing channels. */

export const channelWords = {
  joined: 'Joined',
  archived: 'Archived',
  adminsWrite: 'only admins write',
  whoWrites: 'Who writes',
  writers: {all: 'Everybody', admins: 'Admins'},
  export: 'Export…',
  exportTitle: name => `Export ${name}`,
  exportFrom: 'First day',
  exportTo: 'Last day',
  exportHint: 'Left empty: all that you may read.',
  exportAs: 'As',
  exportForms: {html: 'A page with its pictures and a search', json: 'JSON, for programs'},
  exportNow: 'Export',
};
