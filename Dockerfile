# The web app (app.py): recognises on ONNX Runtime, without PyTorch, as an ordinary user.
#     docker build -t digits . && docker run -p 7860:7860 -v digits:/data digits
FROM python:3.13-slim

RUN useradd --create-home --uid 10001 digits && mkdir /data && chown digits /data
WORKDIR /app
COPY requirements-use.txt requirements-app.txt ./
RUN pip install --no-cache-dir -r requirements-app.txt
COPY *.py ./
COPY audio audio
COPY live live
COPY recognition recognition
COPY webapp webapp
COPY saved_models/vote.onnx saved_models/vote.onnx
USER digits
WORKDIR /data
EXPOSE 7860
HEALTHCHECK --start-period=20s CMD ["python", "-c", \
  "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=5)"]
ENTRYPOINT ["python", "/app/app.py", "--host", "0.0.0.0", "--no-browser", "--access-log", "-"]
