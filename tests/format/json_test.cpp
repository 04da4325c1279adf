#include "format/json.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "tests/support/check_error.h"

namespace sluice::format {
namespace {

using base::ErrorKind;

TEST_CASE("JSON text comes back as it was, with the keys in their order") {
  const std::string text =
      R"({"zebra":1,"apple":[true,false,null,-5,18446744073709551615],"text":"a \"b\" \\ \n é 😀","x":{},"y":[]})";
  CHECK(parse_json(text, "t").dump() == text);
  CHECK(parse_json(parse_json(text, "t").dump_pretty(), "t").dump() == text);
}

TEST_CASE("doubles are written with as few digits as bring them back") {
  for (const double value : {0.1, 1e-5, 1e6, 1.0, -2.5, 5e-324, 1.7976931348623157e308, 1.0 / 3.0}) {
    const std::string text = Json(value).dump();
    CHECK(parse_json(text, "t").as_double("t") == value);
    CHECK(parse_json(text, "t") == Json(value));
  }
  CHECK(Json(1.0).dump() == "1.0");
  CHECK(Json(1e-5).dump() == "1e-05");
  CHECK(Json(std::numeric_limits<double>::infinity()).dump() == "null");
  CHECK(Json(std::numeric_limits<double>::quiet_NaN()).dump() == "null");
}

TEST_CASE("a JSON value is built in code as it reads") {
  const Json json =
      Json::object({{"event", "file"}, {"bytes", 12}, {"ok", true}, {"list", Json::array({1, "two"})}});
  CHECK(json.dump() == R"({"event":"file","bytes":12,"ok":true,"list":[1,"two"]})");
  CHECK(Json::array_of(std::vector<std::string>{"a", "b"}).dump() == R"(["a","b"])");
  CHECK(Json().set("a", 1).set("b", 2).set("a", 3).dump() == R"({"a":3,"b":2})");
  CHECK(Json().push_back(1).push_back(-1).dump() == "[1,-1]");
  CHECK(Json::object().dump() == "{}");
  CHECK(Json::object({{"a", Json::array({1})}}).dump_pretty() == "{\n  \"a\": [\n    1\n  ]\n}\n");
}

TEST_CASE("text that is no UTF-8 is written with replacement characters, control characters as escapes") {
  CHECK(Json(std::string("a\xff"
                         "b"))
            .dump() ==
        "\"a\uFFFD"
        "b\"");
  CHECK(Json(std::string("cut \xe2\x82")).dump() == "\"cut \uFFFD\uFFFD\"");
  CHECK(Json(std::string("\x01\x1f\x7f")).dump() == R"("\u0001\u001f\u007f")");
  CHECK(parse_json(Json(std::string("nul\0nul", 7)).dump(), "t").as_string("t") ==
        std::string("nul\0nul", 7));
}

TEST_CASE("text that is no JSON is refused with the place") {
  struct Case {
    std::string text;
    std::string cause;
  };
  const std::string deep(kJsonDepthMax + 1, '[');
  for (const auto& [text, cause] : {
           Case{"", "x.json: is not valid JSON: line 1, column 1: "},
           Case{std::string("{}\0more", 7), "x.json: is not valid JSON: a NUL byte at offset 2"},
           Case{"{\"a\": 1,\n \"b\" 2}", "line 2, column 6: syntax error"},
           Case{"{} {}", "line 1, column 4"},
           Case{"[1,]", "line 1, column 4"},
           Case{"// no\n1", "line 1, column 1"},
           Case{"[NaN]", "column 2"},
           Case{"\"\xff\"", "ill-formed UTF-8"},
           Case{"\"\xed\xa0\x80\"", "ill-formed UTF-8"},
           Case{"\"a\nb\"", "control character"},
           Case{"1e999", "number overflow"},
           Case{"01", "column 2"},
           Case{R"({"a":1,"b":{"a":1},"a":2})",
                "x.json: is not valid JSON: key 'a' occurs twice in one object"},
           Case{deep, "more than 32 levels"},
           Case{std::string(100000, '['), "more than 32 levels"},
       }) {
    CHECK_ERROR(parse_json(text, "x.json"), ErrorKind::malformed, cause);
  }
  CHECK_NOTHROW(parse_json(std::string(kJsonDepthMax, '[') + std::string(kJsonDepthMax, ']'), "x.json"));
}

TEST_CASE("JSON cut at any byte is refused") {
  const std::string text = R"({"a":[1.5e3,true,null],"b":{"c":"d\u00e9"}})";
  for (std::size_t i = 0; i < text.size(); ++i) {
    CHECK_ERROR(parse_json(text.substr(0, i), "x"), ErrorKind::malformed, "x: is not valid JSON: ");
  }
}

TEST_CASE("a value of another kind is refused with both kinds named") {
  const Json json =
      parse_json(R"({"s":"text","n":12,"d":1.5,"neg":-1,"big":18446744073709551616,"l":[],"b":true})", "t");
  CHECK_ERROR(json.at("n", "f: x").as_string("f: 'n'"), ErrorKind::malformed,
              "f: 'n': expected a string, found 12");
  CHECK_ERROR(json.find("s")->as_uint("f"), ErrorKind::malformed, "found the string 'text'");
  CHECK_ERROR(json.find("d")->as_uint("f"), ErrorKind::malformed,
              "expected a whole number from 0 to 2^64 - 1, found 1.5");
  CHECK_ERROR(json.find("neg")->as_uint("f"), ErrorKind::malformed, "found -1");
  CHECK_ERROR(json.find("big")->as_uint("f"), ErrorKind::malformed, "found 18446744073709551616.0");
  CHECK_ERROR(json.find("l")->as_bool("f"), ErrorKind::malformed, "expected true or false, found an array");
  CHECK_ERROR(json.find("b")->as_double("f"), ErrorKind::malformed, "expected a number, found true");
  CHECK_ERROR(json.as_array("f"), ErrorKind::malformed, "expected an array, found an object");
  CHECK_ERROR(json.find("s")->as_object("f"), ErrorKind::malformed, "expected an object");
  CHECK_ERROR(json.at("none", "f"), ErrorKind::malformed, "f: key 'none' is missing");
  CHECK_ERROR(json.find("l")->at("none", "f"), ErrorKind::malformed, "expected an object, found an array");
  CHECK(json.find("neg")->as_double("f") == -1.0);
  CHECK(json.find("n")->as_double("f") == 12.0);
  CHECK(json.find("none") == nullptr);
  CHECK(json.find("l")->find("none") == nullptr);
}

TEST_CASE("unknown keys are refused by name") {
  const Json json = parse_json(R"({"a":1,"b":2})", "t");
  CHECK_NOTHROW(require_known_keys(json, {"b", "a", "c"}, "f"));
  CHECK_ERROR(require_known_keys(json, {"a"}, "f"), ErrorKind::malformed, "f: unknown key 'b'");
}

}  // namespace

TEST_CASE("values that take more memory than they may are a usage error that says how much") {
  std::string text = "{\"a\":[0";
  for (int i = 0; i < 100'000; ++i) text += ",0";
  text += "],\"b\":{\"c\":\"" + std::string(1000, 'x') + "\"}}";
  CHECK(parse_json(text, "x").at("a", "x").as_array("x").size() == 100'001);
  CHECK_ERROR(parse_json(text, "x", 1 << 20), ErrorKind::usage,
              "x: its JSON takes 7.6 MiB of memory, more than the 1.0 MiB that may be used for it");
  // Damage behind the limit is still damage.
  CHECK_ERROR(parse_json(text + "}", "x", 1 << 20), ErrorKind::malformed, "is not valid JSON");
}

}  // namespace sluice::format
