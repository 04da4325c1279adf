// models: lists the store, and removes what the user names or what nobody needs. The library finds the items
// and removes them; this file decides which item a name means and prints.

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/options.h"

namespace sluice::cli {
namespace {

using format::Json;
using library::StoreItem;

struct ModelsOptions {
  std::string action;
  std::string name;
  bool release = false;
  bool model = false;
  bool releases = false;
  bool dry_run = false;
};

void declare(Options& options, ModelsOptions& values) {
  options.add_optional_argument("ACTION", values.action,
                                "rm removes NAME; prune removes what nobody needs; without it, list");
  options.add_optional_argument("NAME", values.name, "With rm: a name that sluice models lists");
  options.group("Removing");
  options.add_flag("--model", values.model, "With rm: remove the converted model of that name");
  options.add_flag("--release", values.release, "With rm: remove the fetched release of that name");
  options.add_flag("--releases", values.releases,
                   "With prune: also remove releases in the store that a model was made of");
  options.add_flag("--dry-run", values.dry_run, "Show what would be removed, and remove nothing");
  options.exclude("--model", "--release");
  options.add_note(
      "Models are named NAME, NAME-QUANT or NAME-QUANT-ROOT, or by the first digits of their root. prune "
      "removes unfinished downloads and conversions, and records and models that no run can use. A release "
      "outside of the store is only forgotten: its files stay.");
}

/// Error{usage} for words and options that do not fit together.
void require_sensible(const ModelsOptions& values) {
  const auto refuse = [](const std::string& what) {
    throw base::Error(base::ErrorKind::usage, what + " (sluice models --help)");
  };
  const bool rm = values.action == "rm";
  const bool prune = values.action == "prune";
  if (!values.action.empty() && !rm && !prune)
    refuse("'" + values.action + "' is not one of rm, prune" +
           (values.action == "list" || values.action == "ls" ? "; sluice models lists by itself" : ""));
  if (rm && values.name.empty()) refuse("rm needs the NAME of what is to be removed");
  if (!rm && !values.name.empty()) refuse("unexpected argument '" + values.name + "'");
  if (!rm && (values.model || values.release)) refuse("--model and --release are for rm");
  if (!prune && values.releases) refuse("--releases is for prune");
  if (!rm && !prune && values.dry_run) refuse("--dry-run is for rm and prune");
}

Json to_json(const StoreItem& item) {
  auto json = Json::object({{"event", "item"},
                            {"kind", library::to_string(item.kind)},
                            {"name", item.plain_name.empty() ? item.name : item.plain_name},
                            {"id", item.name},
                            {"path", item.path.string()},
                            {"bytes", item.bytes}});
  if (item.kind == StoreItem::Kind::model) {
    json.set("quant", item.quant);
    json.set("root_sha256", item.root_sha256);
    json.set("made_from", item.origin);
  }
  if (item.kind == StoreItem::Kind::release) {
    json.set("infohash", item.infohash);
    json.set("in_store", item.in_store);
    json.set("complete", item.complete);
    json.set("converted", item.converted);
  }
  if (!item.problem.empty()) json.set("problem", item.problem);
  return json;
}

/// What a person should know of an item, in a few words.
std::string remark(const StoreItem& item) {
  if (!item.problem.empty()) return item.problem;
  if (item.kind != StoreItem::Kind::release) return "";
  if (!item.complete) return "unfinished; the same fetch or run goes on with it";
  return item.in_store ? "" : "not in the store";
}

std::string plural(StoreItem::Kind kind, std::size_t count) {
  return base::to_counted(count, library::to_string(kind));
}

/// A line for each item, with its path on a line below when both do not fit into 80 columns.
void print_items(const std::vector<StoreItem>& items, StoreItem::Kind kind, Console& console) {
  constexpr std::size_t kColumns = 80;
  constexpr std::size_t kNameColumnsMax = 48;
  constexpr std::size_t kSizeColumns = 9;
  std::size_t name_columns = 0;
  for (const auto& item : items)
    if (item.kind == kind) name_columns = std::max(name_columns, std::min(item.name.size(), kNameColumnsMax));
  if (name_columns == 0) return;
  console.print(std::string(library::to_string(kind)) + "s");
  for (const auto& item : items) {
    if (item.kind != kind) continue;
    std::string line = "  " + item.name;
    line.resize(std::max(line.size(), name_columns + 2), ' ');
    const std::string size = base::to_human_bytes(item.bytes);
    line += std::string(2 + kSizeColumns - std::min(size.size(), kSizeColumns), ' ') + size;
    const std::string path = item.path.string();
    if (line.size() + 2 + path.size() <= kColumns) {
      console.print(line + "  " + path);
    } else {
      console.print(line);
      console.print("      " + path);
    }
    if (const auto note = remark(item); !note.empty()) console.print("      " + note);
  }
}

std::string totals_text(const std::vector<StoreItem>& items) {
  std::string text;
  for (const auto kind : {StoreItem::Kind::model, StoreItem::Kind::release, StoreItem::Kind::leftover}) {
    std::size_t count = 0;
    std::uint64_t bytes = 0;
    for (const auto& item : items) {
      if (item.kind != kind) continue;
      ++count;
      bytes += item.bytes;
    }
    if (count > 0)
      text += (text.empty() ? "" : "; ") + plural(kind, count) + ", " + base::to_human_bytes(bytes);
  }
  return text;
}

int list(const library::Store& store, const std::vector<StoreItem>& items, Console& console) {
  Json models = Json::array();
  Json releases = Json::array();
  std::uint64_t bytes = 0;
  std::uint64_t abandoned_bytes = 0;
  for (const StoreItem& item : items) {
    const Json json = to_json(item);
    console.event(json);
    if (item.kind == StoreItem::Kind::model) models.push_back(json);
    if (item.kind == StoreItem::Kind::release) releases.push_back(json);
    if (item.in_store) bytes += item.bytes;
    if (library::is_abandoned(item)) abandoned_bytes += item.bytes;
  }
  for (const auto kind : {StoreItem::Kind::model, StoreItem::Kind::release, StoreItem::Kind::leftover})
    print_items(items, kind, console);
  const std::string folder = store.folder().string();
  if (items.empty()) {
    console.note("the model store " + folder + " is empty; sluice run and sluice fetch fill it");
  } else {
    console.note(totals_text(items) + "; " + base::to_human_bytes(bytes) + " in the model store " + folder);
  }
  if (abandoned_bytes > 0)
    console.note("sluice models prune would free " + base::to_human_bytes(abandoned_bytes));
  console.event(Json::object({{"event", "result"},
                              {"store", store.folder().string()},
                              {"bytes", bytes},
                              {"models", std::move(models)},
                              {"releases", std::move(releases)}}));
  return 0;
}

/// Removes the items and prints each. Error{usage} for an item that is in use.
int remove(const library::Store& store, const std::vector<StoreItem>& items, bool dry_run, Console& console) {
  std::uint64_t freed_bytes = 0;
  std::size_t removed = 0;
  for (const StoreItem& item : items) {
    std::uint64_t bytes = item.in_store ? item.bytes : 0;
    if (!dry_run) bytes = library::remove_item(store, item);
    freed_bytes += bytes;
    ++removed;
    Json json = to_json(item);
    json.set("event", "removed");
    json.set("freed_bytes", bytes);
    console.event(json);
    const std::string name = std::string(library::to_string(item.kind)) + " " + item.name;
    if (item.in_store) {
      console.print((dry_run ? "would remove " : "removed ") + name + ", " + base::to_human_bytes(bytes));
    } else {
      console.print((dry_run ? "would forget " : "forgot ") + name + "; its files stay at " +
                    item.path.string());
    }
  }
  console.event(Json::object(
      {{"event", "result"}, {"removed", removed}, {"freed_bytes", freed_bytes}, {"dry_run", dry_run}}));
  if (removed == 0) console.note("there is nothing to remove");
  if (removed > 1) console.print((dry_run ? "would free " : "freed ") + base::to_human_bytes(freed_bytes));
  return 0;
}

/// The one item that the user names.
std::vector<StoreItem> choose(const std::vector<StoreItem>& items, const ModelsOptions& values,
                              const library::Folders& folders) {
  auto found = library::find_items(items, values.name);
  std::erase_if(found, [&](const StoreItem& item) {
    return (values.model && item.kind != StoreItem::Kind::model) ||
           (values.release && item.kind != StoreItem::Kind::release);
  });
  if (found.empty())
    throw base::Error(base::ErrorKind::usage, "the model store has no " +
                                                  std::string(values.model     ? "model "
                                                              : values.release ? "release "
                                                                               : "") +
                                                  "'" + values.name + "'" +
                                                  library::suggest_names(values.name, folders));
  if (found.size() > 1) {
    std::string names;
    for (const StoreItem& item : found)
      names += (names.empty() ? "" : ", ") + std::string(library::to_string(item.kind)) + " " + item.name;
    throw base::Error(base::ErrorKind::usage,
                      "'" + values.name + "' means " + names + "; name one, or give --model or --release");
  }
  return found;
}

/// What nobody needs and no process uses now.
std::vector<StoreItem> choose_abandoned(const std::vector<StoreItem>& items, bool releases,
                                        Console& console) {
  std::vector<StoreItem> chosen;
  for (const StoreItem& item : items) {
    const bool spent = releases && item.kind == StoreItem::Kind::release && item.in_store && item.converted;
    if (!library::is_abandoned(item) && !spent) continue;
    if (library::is_in_use(item)) {
      console.note(item.name + " is in use and is kept");
      continue;
    }
    chosen.push_back(item);
  }
  return chosen;
}

}  // namespace

int models_command(const Invocation& invocation) {
  Console& console = invocation.console;
  ModelsOptions values;
  Options options("models", "Lists the models and releases in the model store, and removes what is named.",
                  "sluice models\n"
                  "sluice models rm mixtral-8x7b --release\n"
                  "sluice models prune --dry-run");
  declare(options, values);
  options.parse(invocation);
  require_sensible(values);

  const LibraryAccess access(invocation);
  const library::Store store(access.folders().store);
  const auto items = library::list_items(store, access.context().observer);
  if (values.action == "rm")
    return remove(store, choose(items, values, access.folders()), values.dry_run, console);
  if (values.action == "prune")
    return remove(store, choose_abandoned(items, values.releases, console), values.dry_run, console);
  return list(store, items, console);
}

}  // namespace sluice::cli
