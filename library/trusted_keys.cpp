#include "library/trusted_keys.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/environment.h"

namespace sluice::cli {

namespace fs = std::filesystem;

fs::path trusted_folder() {
  const fs::path folder = config_folder();
  return folder.empty() ? fs::path() : folder / "trusted";
}

std::vector<TrustedKey> list_trusted_keys(Console& console) {
  std::vector<TrustedKey> keys;
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(trusted_folder(), absent)) {
    if (item.path().extension() != ".pub") continue;
    try {
      keys.push_back({item.path().filename().string(), base::read_public_key(item.path())});
    } catch (const base::Error& error) {
      console.warn(std::string(error.what()) + "; this key is left out");
    }
  }
  std::ranges::sort(keys, {}, &TrustedKey::name);
  return keys;
}

fs::path add_trusted_key(const std::string& name, const base::PublicKey& key) {
  const fs::path folder = trusted_folder();
  if (folder.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      "neither XDG_CONFIG_HOME nor HOME is set: there is no place for trusted keys");
  }
  const fs::path path = folder / (name + ".pub");
  std::error_code absent;
  if (fs::exists(path, absent)) {
    if (base::read_public_key(path) == key) return path;
    throw base::Error(base::ErrorKind::usage,
                      path.string() + ": is another key already; give this one another name by --as");
  }
  base::make_directories(folder);
  base::write_new_file(path, base::as_bytes(to_text(key)));
  return path;
}

base::PublicKey find_key(const std::string& text) {
  std::error_code absent;
  if (fs::is_regular_file(text, absent)) return base::read_public_key(text);
  try {
    return base::parse_public_key(text, "key");
  } catch (const base::Error&) {
    throw base::Error(base::ErrorKind::usage,
                      "'" + base::to_printable(text) + "' is neither a key file nor a key's line of base64");
  }
}

std::string describe_key(const base::PublicKey& key) {
  return "key id       " + base::to_string(key.id) + "\nfingerprint  " + to_line(key) +
         "  (the whole key, as minisign shows it)";
}

}  // namespace sluice::cli
