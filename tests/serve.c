/* Run a SavedModel as a server does: TensorFlow's C library, no Python, none of this package.

   serve FOLDER < request

   A request has a line for each tensor, of fields that tabs separate:

       in   <operation> double|string <value> ...
       out  <operation> <index>

   Prints a line for each "out", in order: its elements, numbers with all their digits. */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

enum { MOST_TENSORS = 100, MOST_VALUES = 10000, LONGEST_LINE = 1 << 20 };

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static TF_Operation *operation(TF_Graph *graph, const char *name) {
  TF_Operation *found = TF_GraphOperationByName(graph, name);
  if (found == NULL) fail("no such operation", name);
  return found;
}

static TF_Tensor *doubles(char **values, int64_t n) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_DOUBLE, &n, 1, n * sizeof(double));
  double *data = TF_TensorData(tensor);
  for (int64_t i = 0; i < n; i++) data[i] = strtod(values[i], NULL);
  return tensor;
}

static TF_Tensor *strings(char **values, int64_t n) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &n, 1, n * sizeof(TF_TString));
  TF_TString *data = TF_TensorData(tensor);
  for (int64_t i = 0; i < n; i++) {
    TF_TString_Init(&data[i]);
    TF_TString_Copy(&data[i], values[i], strlen(values[i]));
  }
  return tensor;
}

static void print(TF_Tensor *tensor) {
  int64_t n = TF_TensorElementCount(tensor);
  const void *data = TF_TensorData(tensor);
  for (int64_t i = 0; i < n; i++) {
    if (i) putchar('\t');
    if (TF_TensorType(tensor) == TF_DOUBLE) {
      printf("%.17g", ((const double *)data)[i]);
    } else if (TF_TensorType(tensor) == TF_FLOAT) {
      printf("%.9g", ((const float *)data)[i]);
    } else if (TF_TensorType(tensor) == TF_BOOL) {
      printf("%d", ((const bool *)data)[i]);
    } else {
      const TF_TString *text = &((const TF_TString *)data)[i];
      printf("%.*s", (int)TF_TString_GetSize(text), TF_TString_GetDataPointer(text));
    }
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage", "serve FOLDER < request");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, "loading");

  TF_Output inputs[MOST_TENSORS], outputs[MOST_TENSORS];
  TF_Tensor *given[MOST_TENSORS], *computed[MOST_TENSORS];
  int n_inputs = 0, n_outputs = 0;
  char *line = malloc(LONGEST_LINE), **fields = malloc(MOST_VALUES * sizeof(char *));
  while (fgets(line, LONGEST_LINE, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    int n = 0;
    /* strsep's rule: two tabs enclose an empty value. */
    for (char *start = line; start != NULL && n < MOST_VALUES; n++) {
      fields[n] = start;
      start = strchr(start, '\t');
      if (start != NULL) *start++ = '\0';
    }
    if (n < 3 || n == MOST_VALUES) fail("bad line", line);
    TF_Output tensor = {operation(graph, fields[1]), 0};
    if (strcmp(fields[0], "out") == 0) {
      tensor.index = atoi(fields[2]);
      if (n_outputs == MOST_TENSORS) fail("too many", "outputs");
      outputs[n_outputs++] = tensor;
    } else {
      if (n_inputs == MOST_TENSORS) fail("too many", "inputs");
      int is_text = strcmp(fields[2], "string") == 0;
      given[n_inputs] = is_text ? strings(fields + 3, n - 3) : doubles(fields + 3, n - 3);
      inputs[n_inputs++] = tensor;
    }
  }
  TF_SessionRun(session, NULL, inputs, given, n_inputs, outputs, computed, n_outputs, NULL, 0, NULL,
                status);
  check(status, "running");
  for (int i = 0; i < n_outputs; i++) print(computed[i]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  return 0;
}
