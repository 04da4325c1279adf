#include "library/trusted_keys.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace sluice::library {

namespace fs = std::filesystem;

std::vector<TrustedKey> list_trusted_keys(const Context& context) {
  std::vector<TrustedKey> keys;
  // A folder that does not exist holds no keys, as on the first run.
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(context.folders.trusted_keys, absent)) {
    if (item.path().extension() != ".pub") continue;
    try {
      keys.push_back({item.path().filename().string(), base::read_public_key(item.path())});
    } catch (const base::Error& error) {
      context.observer.on_warning(std::string(error.what()) + "; this key is left out");
    }
  }
  std::ranges::sort(keys, {}, &TrustedKey::name);
  return keys;
}

fs::path add_trusted_key(const std::string& name, const base::PublicKey& key, const Folders& folders) {
  const fs::path& folder = folders.trusted_keys;
  if (folder.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      "there is no folder for trusted keys: neither XDG_CONFIG_HOME nor HOME is set");
  }
  const fs::path path = folder / (name + ".pub");
  std::error_code absent;
  // Adding the same key twice is no error, so that scripts can repeat it.
  if (fs::exists(path, absent)) {
    if (base::read_public_key(path) == key) return path;
    throw base::Error(base::ErrorKind::usage,
                      path.string() + ": is another key already; give this one another name by --as");
  }
  base::make_directories(folder);
  // Fails when another process has created the file meanwhile: a trusted key is never overwritten.
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

std::vector<std::string> describe_key(const base::PublicKey& key) {
  return {"key id       " + base::to_string(key.id),
          "fingerprint  " + to_line(key) + "  (the whole key, as minisign shows it)"};
}

}  // namespace sluice::library
