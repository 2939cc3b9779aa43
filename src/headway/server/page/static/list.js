/**
 * The list of kept conversations: open, begin, delete, and take along as a file.
 */

import { announce, byId, element } from "./dom.js";

export class ConversationList {
  /**
   * @param {import("./conversations.js").Conversations} store
   * @param {{open: (conversation: any) => void, begin: () => void}} actions
   */
  constructor(store, actions) {
    this.store = store;
    this.actions = actions;
    byId("new-conversation").addEventListener("click", actions.begin);
    byId("export").addEventListener("click", () => this.export());
    byId("delete-all").addEventListener("click", () => this.clear());
  }

  /** @param {import("./conversations.js").Conversation} current */
  render(current) {
    this.current = current;
    const rows = this.store.all.map((each) => this.row(each, each.id === current.id));
    const nothing = element("li", { class: "muted" }, "None yet");
    byId("conversation-list").replaceChildren(...(rows.length > 0 ? rows : [nothing]));
    for (const id of ["export", "delete-all"]) byId(id).disabled = rows.length === 0;
  }

  row(conversation, isCurrent) {
    const title = conversation.mode === "chat" ? conversation.title : `${conversation.title} …`;
    const open = element(
      "button",
      {
        ...{ type: "button", class: "conversation", title: conversation.title },
        "aria-current": isCurrent ? "true" : null,
        onclick: () => this.actions.open(conversation),
      },
      title,
    );
    const remove = element(
      "button",
      {
        ...{ type: "button", class: "button quiet delete", title: "Delete" },
        "aria-label": `Delete ${conversation.title}`,
        onclick: () => this.remove(conversation),
      },
      "×",
    );
    return element("li", {}, open, remove);
  }

  remove(conversation) {
    if (!confirm(`Delete “${conversation.title}” from this browser?`)) return;
    this.store.remove(conversation.id);
    announce("Deleted");
    if (conversation.id === this.current.id) this.actions.begin();
    else this.render(this.current);
  }

  clear() {
    const count = this.store.all.length;
    const what = count === 1 ? "the one conversation" : `all ${count} conversations`;
    if (!confirm(`Delete ${what} from this browser?`)) return;
    this.store.clear();
    announce("Deleted");
    this.actions.begin();
  }

  /** Hand the conversations over as a file; nothing leaves the machine. */
  export() {
    const file = new Blob([this.store.exported()], { type: "application/json" });
    const address = URL.createObjectURL(file);
    element("a", { href: address, download: "headway-conversations.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}
