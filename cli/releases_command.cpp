#include "base/text.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/options.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

using format::Json;

/// Returns the rounded number for people; --json has the exact one. Empty when nobody has published it.
std::string parameters_text(const format::Manifest& manifest) {
  if (!manifest.parameter_count) return "";
  const auto count = static_cast<double>(*manifest.parameter_count);
  return count < 1e9 ? format_number("%.1f M", count / 1e6) : format_number("%.1f G", count / 1e9);
}

Json to_json(const library::CatalogEntry& entry) {
  const auto& manifest = entry.manifest;
  auto json = Json::object({{"name", manifest.name},
                            {"description", manifest.description},
                            {"licence", manifest.licence},
                            {"source", manifest.source},
                            {"unsupported", manifest.unsupported},
                            {"magnet", manifest.magnet()},
                            {"embedded", entry.embedded_folder.has_value()},
                            {"manifest", entry.manifest_path.string()}});
  if (manifest.parameter_count) json.set("parameters", *manifest.parameter_count);
  return json;
}

}  // namespace

int releases_command(const Invocation& invocation) {
  Console& console = invocation.console;
  Options options("releases",
                  "Lists the known releases. fetch and run take these names, and so does verify --manifest.",
                  "sluice releases");
  options.parse(invocation);

  Json releases = Json::array();
  Table table({1});
  const LibraryAccess access(invocation);
  for (const auto& entry : library::list_releases(access.context())) {
    releases.push_back(to_json(entry));
    const std::string& why = entry.manifest.unsupported;
    table.add_row({entry.manifest.name, parameters_text(entry.manifest), entry.manifest.licence,
                   entry.embedded_folder ? "embedded" : "by magnet link",
                   entry.manifest.description + (why.empty() ? "" : "; fetch and verify only: " + why)});
  }
  console.print(table);
  if (table.empty())
    console.note(access.folders().data.empty()
                     ? std::string("no release is known: there is no folder manifests/ beside the program")
                     : "no release is known: " + (access.folders().data / "manifests").string() +
                           " holds no manifest");
  console.event(Json::object({{"event", "result"}, {"releases", std::move(releases)}}));
  return 0;
}

}  // namespace sluice::cli
