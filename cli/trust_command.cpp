// trust: adds a key to the trusted keys, or lists them. A key that only looks right is worthless, so a person
// has to compare it with what its owner publishes; --yes says that this was done (docs/decisions/0008).

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

struct TrustOptions {
  std::string key;
  std::string name;
  bool yes = false;
};

Json key_json(const std::string& name, const base::PublicKey& key) {
  return Json::object({{"name", name}, {"key_id", base::to_string(key.id)}, {"key", to_line(key)}});
}

int list_keys(const LibraryAccess& access, Console& console) {
  // The whole key is listed and not only its id: ids are chosen by whoever makes a key, and two keys may
  // share one.
  Json keys = Json::array();
  Table table;
  for (const auto& trusted : library::list_trusted_keys(access.context())) {
    keys.push_back(key_json(trusted.name, trusted.key));
    table.add_row({trusted.name, base::to_string(trusted.key.id), to_line(trusted.key)});
  }
  console.event(Json::object(
      {{"event", "result"}, {"folder", access.folders().trusted_keys.string()}, {"keys", keys}}));
  console.print(table);
  if (table.empty())
    console.note("no key is trusted yet; sluice trust KEY.pub adds one to " +
                 access.folders().trusted_keys.string());
  return 0;
}

/// The name under which the key is kept. It becomes a file name, so it must not contain a path.
std::string name_of(const TrustOptions& values, const base::PublicKey& key) {
  std::string name = values.name;
  std::error_code absent;
  if (name.empty() && fs::is_regular_file(values.key, absent)) name = fs::path(values.key).stem().string();
  if (name.empty()) name = base::to_string(key.id);
  // A leading dot would hide the key from the listing of the folder.
  const bool usable = name.find('/') == std::string::npos && !name.starts_with('.') && name.size() <= 200;
  if (!usable) throw base::Error(base::ErrorKind::usage, "--as " + name + ": is no name for a file");
  return name;
}

void ask_for_trust(const base::PublicKey& key, const TrustOptions& values, Console& console) {
  // The key is shown even with --yes, so that a log says which key was trusted.
  for (const std::string& line : library::describe_key(key)) console.note(line);
  if (values.yes) return;
  // Silence is never a yes: without a terminal the user has to say --yes.
  if (!can_ask(console)) {
    throw base::Error(base::ErrorKind::usage, "nobody is there to be asked: compare the key " + to_line(key) +
                                                  " with what its owner publishes, and repeat with --yes");
  }
  if (!ask_yes_no(console, "Is this what its owner publishes, and do you trust it from now on?"))
    throw base::Error(base::ErrorKind::untrusted, "key " + base::to_string(key.id) + " is not trusted");
}

}  // namespace

int trust_command(const Invocation& invocation) {
  Console& console = invocation.console;
  TrustOptions values;
  Options options("trust", "Adds a key to the trusted keys. Without KEY it lists them.",
                  "sluice trust alice.pub");
  options.add_optional_argument("KEY", values.key, "Public key file, or its line of base64");
  options.add_text("--as NAME", values.name, "Store the key as NAME.pub (default: the name of the key file)");
  options.add_flag("--yes", values.yes,
                   "Do not ask; you have compared the key with what its owner publishes");
  options.parse(invocation);

  const LibraryAccess access(invocation);
  if (values.key.empty()) return list_keys(access, console);
  const base::PublicKey key = library::find_key(values.key);
  const std::string name = name_of(values, key);
  ask_for_trust(key, values, console);
  const fs::path kept = library::add_trusted_key(name, key, access.folders());
  console.event(Json::object({{"event", "result"},
                              {"path", kept.string()},
                              {"name", kept.filename().string()},
                              {"key_id", base::to_string(key.id)},
                              {"key", to_line(key)}}));
  console.print(kept.string() + ": key " + base::to_string(key.id) +
                " is trusted; to end that, delete the file");
  return 0;
}

}  // namespace sluice::cli
