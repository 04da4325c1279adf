// Prints reports in both forms. Names from releases and containers come from strangers: --json escapes them,
// and for people each goes through base::to_printable.

#include "cli/report.h"

#include <algorithm>

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

using format::Json;
using verify::FileState;

// People see the first few; --json has them all.
constexpr std::size_t kRangesShown = 8;
constexpr std::size_t kPlacesShown = 4;

// "tensors" has the names alone; "places" adds rows, layer and expert, and parts of the file that are not
// tensors.
Json damaged_json(const verify::DamagedRange& range) {
  Json tensors = Json::array();
  Json places = Json::array();
  for (const auto& tensor : range.tensors) {
    tensors.push_back(tensor.name);
    Json place = Json::object({{"tensor", tensor.name}});
    if (tensor.rows) place.set("rows", Json::array_of(std::vector{tensor.rows->first, tensor.rows->last}));
    if (tensor.layer) place.set("layer", *tensor.layer);
    if (tensor.expert) place.set("expert", *tensor.expert);
    places.push_back(std::move(place));
  }
  for (const auto& part : range.parts) places.push_back(Json::object({{"part", part}}));
  return Json::object({{"offset", range.range.offset_bytes},
                       {"length", range.range.length_bytes},
                       {"tensors", std::move(tensors)},
                       {"places", std::move(places)}});
}

Json file_event(const char* event_name, const verify::FileReport& file) {
  Json damaged = Json::array();
  for (const auto& range : file.damaged) {
    damaged.push_back(damaged_json(range));
  }
  // Names are written as they are: Json escapes what JSON does not allow, and a program needs the exact bytes
  // to find the file.
  auto event = Json::object({{"event", event_name},
                             {"path", file.path},
                             {"state", verify::to_string(file.state)},
                             {"bytes", file.bytes},
                             {"damaged", std::move(damaged)}});
  if (!file.problem.empty()) event.set("problem", file.problem);
  return event;
}

/// Rows count from 0, as in the matrix of the checkpoint; the last row belongs to the range.
std::string place_text(const verify::TouchedTensor& tensor) {
  std::string text = base::to_printable(tensor.name);
  if (!tensor.rows) return text;
  if (tensor.rows->first == tensor.rows->last) return text + ", row " + std::to_string(tensor.rows->first);
  return text + ", rows " + std::to_string(tensor.rows->first) + "-" + std::to_string(tensor.rows->last);
}

// "layers.17.feed_forward.experts.3.w2.weight, rows 812-819; padding"
std::string places_text(const verify::DamagedRange& range) {
  std::vector<std::string> places;
  for (const auto& tensor : range.tensors) places.push_back(place_text(tensor));
  for (const auto& part : range.parts) places.push_back(base::to_printable(part));
  std::string text;
  for (std::size_t i = 0; i < std::min(places.size(), kPlacesShown); ++i)
    text += (i == 0 ? ": " : "; ") + places[i];
  if (places.size() > kPlacesShown) text += " and " + std::to_string(places.size() - kPlacesShown) + " more";
  return text;
}

void print_file(const verify::FileReport& file, Console& console) {
  std::string line = file.path;
  if (file.state == FileState::ok) {
    line += "  " + base::to_human_bytes(file.bytes);
  } else {
    // "extra: not part of the release" would say it twice.
    if (file.state == FileState::extra && !file.problem.empty()) {
      line += ": " + file.problem;
    } else {
      line += ": " + std::string(verify::to_string(file.state));
      if (!file.problem.empty()) line += ", " + file.problem;
    }
  }
  console.print(marked(verify::to_mark(file.state), line));
  // The one damaged range of a missing file is the whole file, which the problem says already.
  if (file.state == FileState::missing) return;
  for (std::size_t i = 0; i < std::min(file.damaged.size(), kRangesShown); ++i) {
    const auto& range = file.damaged[i];
    console.print("    bytes " + std::to_string(range.range.offset_bytes) + " to " +
                  std::to_string(range.range.end_bytes()) + places_text(range));
  }
  if (file.damaged.size() > kRangesShown) {
    console.print("    and " + std::to_string(file.damaged.size() - kRangesShown) + " more ranges");
  }
}

// Green for what is right, red for what is wrong or cannot be read, yellow for what nobody vouches for.
Style mark_style(char mark) {
  switch (mark) {
    case '=': return kGood;
    case '*':
    case '-':
    case '!': return kBad;
    default: return kWarning;
  }
}

}  // namespace

StyledText marked(char mark, std::string_view text) {
  return StyledText(std::string_view(&mark, 1), mark_style(mark)).add(" ").add(text);
}

void print_files(const verify::Report& report, Console& console) {
  for (const auto& file : report.files) {
    if (console.json()) {
      console.event(file_event("file", file));
      // --quiet still shows what is wrong.
    } else if (!console.quiet() || file.state != FileState::ok) {
      print_file(file, console);
    }
  }
}

void print_damage(const verify::Report& report, Console& console) {
  for (const auto& file : report.files) {
    if (file.state == FileState::ok) continue;
    // The event has another name than "file": after the repair each file is reported again, and that report
    // is the result.
    console.event(file_event("damage", file));
    if (!console.json()) print_file(file, console);
  }
}

Json result_json(const verify::Report& report, double seconds) {
  auto result = Json::object({{"event", "result"},
                              {"ok", report.ok},
                              {"files", report.files.size()},
                              {"bytes", report.bytes},
                              {"damaged_bytes", report.damaged_bytes},
                              {"proven_by", Json::array_of(report.proven_by)},
                              {"seconds", seconds}});
  if (!report.root_sha256.empty()) {
    result.set("root_sha256", report.root_sha256);
    result.set("tensors_sha256", report.tensors_sha256);
  }
  return result;
}

Json signature_json(const library::SignatureReport& report) {
  auto json = Json::object({{"state", to_string(report.state)}, {"file", report.file}});
  if (!report.key_id.empty()) json.set("key_id", report.key_id);
  if (report.state == library::SignatureState::valid) {
    // The comment of a signature that is not valid is anybody's word, so it is left out.
    json.set("trusted_as", report.trusted_as);
    json.set("comment", report.comment);
  }
  return json;
}

void print_chain(const std::vector<verify::ChainLink>& chain, Console& console) {
  for (const auto& link : chain)
    console.print(marked(verify::to_mark(link.state), link.link + ": " + link.detail));
}

Json chain_json(const std::vector<verify::ChainLink>& chain) {
  Json links = Json::array();
  for (const auto& link : chain) {
    links.push_back(Json::object({{"link", link.link},
                                  {"state", std::string(1, verify::to_mark(link.state))},
                                  {"detail", link.detail}}));
  }
  return links;
}

}  // namespace sluice::cli
